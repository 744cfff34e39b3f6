"""The folder of a run: nobody else's is touched, and one run at a time."""

import json
import os

import pytest

from gen_jax.training.workdir import Workdir
from tests.training.run_folder import RECORD, changed, checkpoint, contents


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


def test_a_run_that_goes_on_otherwise_says_how_it_was_trained_before(run):
    """`--resume`: the settings of each stretch decide the parameters, and its last step."""
    workdir = Workdir(run)

    def go_on(*, at=None, resume=True, overwrite=False, **settings):
        if at is not None:
            checkpoint(run / "checkpoints" / str(at))
        record = {**RECORD, "training": {**RECORD["training"], **settings}}
        workdir.claim(record, resume=resume, overwrite=overwrite)
        return [(x["until"], x["training"]["steps"]) for x in workdir.read()["earlier"]]

    first = RECORD["training"]["steps"]
    assert go_on(log_every=7) == [], "nothing that decides the parameters"
    assert go_on(steps=70) == [(5, first)]
    assert go_on(steps=80) == [(5, first)], "no step was of 70"
    assert go_on(steps=80, resume=False) == [(5, first)], "the same run"
    assert go_on(at=60, steps=80) == [(5, first)]
    assert go_on(steps=90) == [(5, first), (60, 80)]
    assert go_on(steps=80) == [(5, first)], "no step was of 90"
    assert workdir.read()["earlier"][0]["training"]["optimizer"] == RECORD["training"]["optimizer"]
    workdir.goes_on_from(50)  # the checkpoint of step 60 is damaged
    assert [stage["until"] for stage in workdir.read()["earlier"]] == [5]
    assert go_on(steps=90) == [(5, first), (60, 80)]
    workdir.goes_on_from(50)
    assert go_on(at=55, steps=100) == [(5, first), (50, 80), (60, 90)]
    workdir.goes_on_from(4)
    assert [stage["until"] for stage in workdir.read()["earlier"]] == [4]
    assert go_on(steps=80, resume=False, overwrite=True) == [], "another run"


def test_the_weights_at_the_start_may_lie_elsewhere(run):
    start = {"run": "runs/a", "step": 3, "sha256": "0"}
    (run / "run.json").write_text(json.dumps(changed("init_from", start)))
    said = []
    moved = changed("init_from", {**start, "run": "/mnt/a"})
    Workdir(run).claim(moved, notify=said.append)
    assert said == [
        f"the weights at the start of {run}, 'runs/a' when it began, are now '/mnt/a': the same"
    ]
    moved["init_from"]["sha256"] = "1"
    with pytest.raises(ValueError, match=r"init_from.sha256 is '0' there, '1' here"):
        Workdir(run).claim(moved)


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
