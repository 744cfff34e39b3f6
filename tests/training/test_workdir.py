"""The folder of a run: nobody else's is touched, one run at a time, and run.json is checked."""

import copy
import dataclasses
import errno
import json
import os

import pytest

from gen_jax import likelihoods, models, training
from gen_jax.data import DataConfig
from gen_jax.files import write_atomically
from gen_jax.training.workdir import Workdir

MODEL = models.GatedPixelCNN((4, 4, 1), likelihoods.Categorical(17))
RECORD = {
    "format": "gen_jax run 1",
    "model": models.to_dict(MODEL),
    "objective": training.target_to_dict(training.LOG_LIKELIHOOD),
    "data": {"config": dataclasses.asdict(DataConfig()), "fingerprint": "1"},
    "training": dataclasses.asdict(training.TrainConfig()),
    "processes": 1,
    "init_from": None,
    "versions": {"jax": "0"},
}


def changed(name, value):
    """RECORD with another value at a dotted name; without it, if the value is `del`."""
    record = copy.deepcopy(RECORD)
    *path, last = name.split(".")
    place = record
    for key in path:
        place = place[key]
    if value == "del":
        del place[last]
    else:
        place[last] = value
    return record


def contents(folder):
    return {
        path: (os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }


def checkpoint(path, *names):
    """A checkpoint as far as its names go."""
    for name in names or ("params", "ema", "optimizer", "data", "metrics"):
        (path / name).mkdir(parents=True)
        (path / name / "_METADATA").write_text("{}")
    handlers = dict.fromkeys(names or ("params", "ema", "optimizer", "data"), "x")
    (path / "_CHECKPOINT_METADATA").write_text(json.dumps({"item_handlers": handlers}))


@pytest.fixture
def run(tmp_path):
    """A run at step 5, as its files are named, with all that a run may leave."""
    path = tmp_path / "run"
    Workdir(path).claim(RECORD)
    checkpoint(path / "checkpoints" / "5")
    (path / "checkpoints" / "6.orbax-checkpoint-tmp" / "ema").mkdir(parents=True)
    (path / "checkpoints" / ".4.removed" / "ema").mkdir(parents=True)
    checkpoint(path / "damaged" / "5")
    checkpoint(path / "damaged" / "5-1")
    (path / "tensorboard").mkdir()
    (path / "tensorboard" / "events.out.tfevents.1.host").touch()
    (path / "metrics.jsonl").write_text('{"step": 1}\n')
    (path / "samples").mkdir()
    (path / "samples" / "step_1.png").touch()
    (path / "notes.txt").write_text("mine")
    return path


def file(name, text="mine"):
    def make(path):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)

    return make


def link(name):
    """In place of a folder of the run, a link to one elsewhere."""

    def make(path):
        os.rename(path / name, path.parent / "elsewhere")
        (path / name).symlink_to(path.parent / "elsewhere")

    return make


def other_checkpoint(path):
    checkpoint(path / "checkpoints" / "7", "default")


FOREIGN = {
    "another's run.json": (file("run.json", '{"run": 12, "epochs": 3}'), "has no model"),
    "a list": (file("run.json", "[1, 2]"), "is no JSON object; accepted"),
    "of another schema": (
        file("run.json", '{"model": {}, "data": {}, "training": {}, "versions": {}}'),
        "model.model is None; accepted: a text",
    ),
    "text": (file("run.json", "learning rate 3"), "run.json cannot be read"),
    "a number's folder": (file("checkpoints/12/weights.pt"), "checkpoints/12 "),
    "a file": (file("checkpoints/epoch_012.pt"), "epoch_012.pt was not written by a run"),
    "a number's file": (file("checkpoints/13"), "checkpoints/13 "),
    "another's checkpoint": (other_checkpoint, "checkpoints/7 "),
    "among ours": (file("checkpoints/5/notes.txt"), "checkpoints/5 "),
    "among the damaged": (file("damaged/notes.txt"), "notes.txt was not written by a run"),
    "among the events": (file("tensorboard/notes.txt"), "notes.txt was not written by a run"),
    "linked checkpoints": (link("checkpoints"), "checkpoints was not written by a run"),
    "a linked checkpoint": (link("checkpoints/5"), "checkpoints/5 "),
    "linked events": (link("tensorboard"), "tensorboard was not written by a run"),
    "linked damaged": (link("damaged"), "damaged was not written by a run"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_no_run_has_written_is_not_removed(run, name):
    make, message = FOREIGN[name]
    make(run)
    before = contents(run.parent)
    with pytest.raises(ValueError, match=message) as error:
        Workdir(run).claim(RECORD, overwrite=True)
    assert "\n" not in str(error.value)
    assert contents(run.parent) == before


def test_overwrite_removes_a_run_and_nothing_else(run):
    Workdir(run).claim(changed("model.features", 7), overwrite=True)
    assert sorted(path.name for path in run.iterdir()) == ["notes.txt", "run.json", "samples"]


def test_a_marked_run_json_edited_by_hand_may_be_overwritten(run):
    (run / "run.json").write_text(json.dumps(changed("model", None)))
    Workdir(run).claim(RECORD, overwrite=True)
    assert Workdir(run).read() == RECORD


def test_a_run_without_checkpoints_is_begun_anew_by_the_same_only(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(RECORD)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match=r"model.features is 64 there, 7 here; accepted: another"):
        workdir.claim(changed("model.features", 7))
    assert workdir.metrics.exists()
    workdir.claim(RECORD)
    assert not workdir.metrics.exists()


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
    if value not in ("del", {"run": 3}, [4, "x"]):
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


def test_the_same_data_may_lie_elsewhere(run):
    said = []
    moved = changed("data.config.name", "/mnt/digits.npz")
    Workdir(run).claim(moved, notify=said.append)
    assert said == [
        f"the data of {run}, 'digits' when it began, are now '/mnt/digits.npz': the same"
    ]
    moved["data"]["fingerprint"] = "2"
    with pytest.raises(ValueError, match=r"data.fingerprint is '1' there, '2' here"):
        Workdir(run).claim(moved)


def test_one_run_at_a_time_holds_the_folder(tmp_path):
    workdir = Workdir(tmp_path / "run")
    message = f"is in use by process {os.getpid()} on .* since 2"
    with workdir.lock(), pytest.raises(ValueError, match=message), workdir.lock():
        raise AssertionError("two hold it")
    with pytest.raises(RuntimeError), workdir.lock():
        raise RuntimeError
    with workdir.lock():
        pass


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "''"),
        ("  ", "'  '"),
        ("gs://bucket/run", "a local path"),
        ("s3:/bucket/run", "a local path"),
        ("~nobody-of-that-name/run", "home"),
    ],
)
def test_a_path_that_is_none_is_refused(path, message):
    with pytest.raises(ValueError, match=message):
        Workdir(path)


def test_a_full_disk_leaves_the_old_text_and_no_other(tmp_path, monkeypatch):
    def fail(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "run.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: .*run\.json"):
        write_atomically(path, "new")
    assert contents(tmp_path) == {path: b"old"}
