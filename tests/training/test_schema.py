"""run.json: edited by hand it is one line, of before it goes on under the defaults."""

import json

import pytest

from gen_jax.training.workdir import Workdir
from tests.training.run_folder import RECORD, changed, contents

# (field, value, what the line must say beside the field): all that is read, of a wrong type.
EDITS = [
    ("format", "gen_jax run 9", "'gen_jax run 1'"),
    ("model", None, "an object"),
    ("model.model", 3, "a text"),
    ("model.features", "64", "an integer"),
    ("model.features", True, "an integer"),
    ("model.dropout", None, "a finite number"),
    ("model.dropout", float("inf"), "a finite number"),
    ("model.image_shape", [4, 4], "a list of 3, each an integer"),
    ("model.num_classes", "ten", "an integer or null"),
    ("model.dtype", "float16", "'float32' or 'bfloat16' or 'float64'"),
    ("model.width", 3, "no such field"),
    ("model.likelihood", None, "an object"),
    ("model.likelihood.name", None, "a text"),
    ("model.likelihood.levels", 4.5, "an integer"),
    ("objective", None, "an object"),
    ("objective.name", 1, "a text"),
    ("objective.dropout", "yes", "true or false"),
    ("data", [], "an object"),
    ("data.fingerprint", None, "a text"),
    ("data.fingerprint", "del", "a text"),
    ("data.config", None, "an object"),
    ("data.config.name", None, "a text"),
    ("data.config.size", [4, "x"], "a list of 2, each an integer or null"),
    ("data.config.grayscale", 1, "true or false"),
    ("training", None, "an object"),
    ("training.steps", 5.5, "an integer"),
    ("training.optimizer", 1, "an object"),
    ("training.optimizer.eps", "small", "a finite number"),
    ("training.optimizer.schedule", "linear", "'cosine' or "),
    ("training.epochs", 3, "no such field"),
    ("processes", 0, "1 or more"),
    ("processes", "1", "1 or more"),
    ("init_from", "other", "an object"),
    ("init_from", {"run": 3}, "a text"),
    ("earlier", {"until": 3}, "a list"),
    ("earlier", [5], "objects"),
    ("earlier", [{"until": "5", "training": {}}], "an integer"),
    ("earlier", [{"until": 5, "training": 1}], "an object"),
    ("init_from", {"run": "a", "step": 5}, "what a run"),
    ("earlier", [{"until": 5}], "what a run"),
    ("earlier", [{"until": 5, "training": {"steps": 9}}], "what a run"),
    ("training", {"steps": 9}, "what a run"),
    ("versions", None, "an object"),
]


@pytest.mark.parametrize(("name", "value", "accepted"), EDITS)
def test_an_edited_run_json_is_named_by_file_field_and_value(tmp_path, name, value, accepted):
    (tmp_path / "run.json").write_text(json.dumps(changed(name, value)))
    with pytest.raises(ValueError, match=r"run\.json") as error:
        Workdir(tmp_path).read()
    line = str(error.value)
    assert name in line
    assert f"accepted: {accepted}" in line
    assert "\n" not in line
    if (
        name != "earlier"
        and accepted != "what a run"
        and value not in ("del", {"run": 3}, [4, "x"])
    ):
        assert repr(value) in line
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=name):
        Workdir(tmp_path).claim(RECORD)
    assert contents(tmp_path) == before


def test_a_run_of_before_goes_on_under_the_defaults(run):
    """Fields that have come since count as their defaults; no other value does."""
    old = changed("format", "del")
    for place, name in (
        (old, "objective"),
        (old, "processes"),
        (old, "init_from"),
        (old, "earlier"),
        (old["model"], "kernel_size"),
        (old["model"]["likelihood"], "levels"),
        (old["data"]["config"], "grayscale"),
        (old["training"], "keep"),
        (old["training"]["optimizer"], "ema_decay"),
    ):
        del place[name]
    (run / "run.json").write_text(json.dumps(old))
    new = changed("model.likelihood.levels", 256)
    Workdir(run).claim(new)
    assert Workdir(run).read() == new
    for name, value in (("model.kernel_size", 5), ("training.optimizer.ema_decay", 0.5)):
        (run / "run.json").write_text(json.dumps(old))
        other = changed(name, value)
        other["model"]["likelihood"]["levels"] = 256
        with pytest.raises(ValueError, match=f"{name} is .* there, {value} here"):
            Workdir(run).claim(other)
