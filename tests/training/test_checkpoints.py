"""Checkpoints: complete or absent, the best kept, readable on other devices, never not finite."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import gen_jax
from gen_jax import models, training
from gen_jax.training import checkpoints as checkpoints_file
from gen_jax.training import devices
from gen_jax.training.workdir import Workdir

from . import tiny

STEPS = tiny.CONFIG.steps
ONE = training.make_mesh(jax.devices()[:1])
ALL = training.make_mesh()


def new_state(mesh=ONE, fill=None):
    state = devices.create_state(tiny.MODEL, tiny.OPTIMIZER, STEPS, jax.random.key(0), mesh)
    return state if fill is None else state.replace(ema=jax.tree.map(lambda x: x * fill, state.ema))


def abstract(mesh=ONE):
    return devices.abstract_state(tiny.MODEL, tiny.OPTIMIZER, STEPS, mesh)


def record(**training_fields):
    config = dataclasses.asdict(dataclasses.replace(tiny.CONFIG, **training_fields))
    return {
        "format": "gen_jax run 1",
        "model": models.to_dict(tiny.MODEL),
        "data": tiny.DATA,
        "training": config,
        "versions": {},
    }


def claim(path, **kwargs):
    workdir = Workdir(path)
    workdir.claim(record(**kwargs))
    return workdir


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Steps 1 to 5 saved with these losses, keep=2: 2 (the best), 4 and 5 remain."""
    workdir = claim(tmp_path_factory.mktemp("saved"))
    data = tiny.batches()
    with training.Checkpoints(workdir, keep=2) as checkpoints:
        for step, loss in enumerate([3.0, 1.0, 2.0, 5.0, 4.0], start=1):
            next(data)
            # One right after another: none may be dropped.
            checkpoints.save(step, new_state(fill=step), data, loss)
        checkpoints.wait()
        assert checkpoints.losses == {2: 1.0, 4: 5.0, 5: 4.0}
        assert (checkpoints.best, checkpoints.last) == (2, 5)
    return workdir.path


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def truncate(path):
    """Cuts every data file of a checkpoint in half."""
    files = [file for file in path.glob("*/ocdbt.process_0/d/*") if file.is_file()]
    files += [file for file in path.glob("*/d/*") if file.is_file()]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_the_best_step_is_loaded_and_the_last_on_request(saved):
    kernel = jax.tree.leaves(new_state().ema)[-1]
    for step, factor in (("best", 2), ("last", 5), (4, 4)):
        model, variables = gen_jax.load(str(saved), step)
        assert model == tiny.MODEL
        np.testing.assert_array_equal(jax.tree.leaves(variables)[-1], kernel * factor)
    model.apply(variables, jnp.asarray(tiny.make_images(2)))


def test_a_save_without_validation_is_last_but_not_best(copied):
    with training.Checkpoints(Workdir(copied), keep=1) as checkpoints:
        checkpoints.save(6, new_state(), tiny.batches(), None, wait=True)
        assert checkpoints.losses == {2: 1.0, 6: None}
        checkpoints.validated(6, 0.5)
        checkpoints.save(7, new_state(), tiny.batches(), 2.5, wait=True)
        assert checkpoints.losses == {6: 0.5, 7: 2.5}
    assert training.complete_steps(copied) == {6: 0.5, 7: 2.5}


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
@pytest.mark.parametrize(("source", "target"), [(ALL, ONE), (ONE, ALL)], ids=["all-1", "1-all"])
def test_a_checkpoint_is_read_on_other_devices(tmp_path, source, target):
    workdir, state, data = claim(tmp_path), new_state(source), tiny.batches()
    for _ in range(3):
        next(data)
    with training.Checkpoints(workdir) as checkpoints:
        checkpoints.save(3, state, data, 1.0, wait=True)
        position = tiny.batches()
        restored = checkpoints.restore(abstract(target), position)
    assert restored is not None
    assert restored.step == 3
    np.testing.assert_array_equal(next(position)["images"], next(data)["images"])
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored)[1:], jax.tree.leaves(state)[1:], strict=True):
        assert a.sharding.device_set == set(target.devices.flat)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    variables = training.load(tmp_path)[1]
    for leaf in jax.tree.leaves(variables):
        assert leaf.sharding.device_set == {jax.devices()[0]}


def rewrite(name, text):
    """Puts another text into a file of a checkpoint."""

    def write(path):
        assert (path / name).is_file()
        (path / name).write_text(text)

    return write


def poison(path):
    """An older checkpoint, without a seal, at another position."""
    index = json.loads((path / "_CHECKPOINT_METADATA").read_text())
    assert index["custom_metadata"]["gen_jax"]["position"] == {"next_index": 5}
    index["custom_metadata"] = {}
    (path / "_CHECKPOINT_METADATA").write_text(json.dumps(index))
    rewrite("data/process_0-of-1.json", '{"next_index": 6}')(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "a file is missing, cut short or altered"),
        (lambda path: shutil.rmtree(path / "optimizer"), "a file is missing, cut short or altered"),
        (rewrite("_CHECKPOINT_METADATA", ""), "a file is missing, cut short or altered"),
        (
            rewrite("data/process_0-of-1.json", '{"next'),
            "process_0-of-1.json is not what was saved",
        ),
        (rewrite("data/process_0-of-1.json", '{"next_index": 6}'), "is not what was saved"),
        (poison, "its position in the data is 6"),
    ],
)
def test_a_damaged_checkpoint_falls_back_one_step_and_says_so(copied, damage, reason):
    damage(copied / "checkpoints" / "5")
    (copied / "damaged" / "5").mkdir(parents=True)
    (copied / "damaged" / "5" / "mine").touch()
    said, data = [], tiny.batches()
    with training.Checkpoints(Workdir(copied), notify=said.append) as checkpoints:
        state = checkpoints.restore(abstract(), data)
        assert state is not None
        assert state.step == 4
        assert data.get_state() == {"next_index": 4}
        assert list(checkpoints.losses) == [2, 4]
        checkpoints.save(5, state, data, 4.0, wait=True)  # its place is free again
    assert f"checkpoint 5 in {copied} is damaged: " in said[0]
    assert reason in said[0]
    assert said[1] == "going on from step 4 instead of step 5"
    assert (copied / "damaged" / "5-1").is_dir()
    assert (copied / "damaged" / "5" / "mine").exists()


@pytest.mark.parametrize(
    "text", ["", "{}", "[3]", '{"loss": "1"}', '{"loss": NaN}', '{"loss": true}', '{"loss": 0.5}']
)
def test_a_damaged_loss_counts_as_none_and_is_named(copied, text):
    """Of the last digit too: the best step must not change by it."""
    file = copied / "checkpoints" / "4" / "metrics" / "metrics"
    file.write_text(text)
    message = f"{file} is damaged: step 4 counts as not validated"
    with pytest.warns(UserWarning, match=message):
        assert training.complete_steps(copied) == {2: 1.0, 4: None, 5: 4.0}
    said = []
    with training.Checkpoints(Workdir(copied), notify=said.append) as checkpoints:
        assert said == [message]
        assert checkpoints.best == 2


def test_a_kill_between_a_save_and_its_loss_loses_neither(copied):
    shutil.rmtree(copied / "checkpoints" / "2" / "metrics")
    assert training.complete_steps(copied)[2] == 1.0


def test_folders_of_others_among_the_checkpoints_stay(copied):
    """A step is what has our items: nothing else is listed, read or removed to make place."""
    (copied / "checkpoints" / "1" / "default").mkdir(parents=True)
    (copied / "checkpoints" / "7.orbax-checkpoint-tmp").mkdir()
    with training.Checkpoints(Workdir(copied), keep=1) as checkpoints:
        assert list(checkpoints.losses) == [2, 4, 5]
        checkpoints.save(8, new_state(), tiny.batches(), None, wait=True)
    names = {path.name for path in (copied / "checkpoints").iterdir()}
    assert names == {"1", "2", "8"}


def test_a_full_disk_is_one_line_and_leaves_no_part(copied, monkeypatch):
    class Response:
        def result(self):
            raise ValueError("RESOURCE_EXHAUSTED: write: No space left on device\n" * 9)

        def on_complete(self, callback):
            pass

    def save(path, items, custom_metadata):
        (copied / "checkpoints" / "6.orbax-checkpoint-tmp" / "ema").mkdir(parents=True)
        return Response()

    monkeypatch.setattr(checkpoints_file.ocp, "save_checkpointables_async", save)
    with training.Checkpoints(Workdir(copied)) as checkpoints:
        checkpoints.save(6, new_state(), tiny.batches(), 1.5)
        with pytest.raises(OSError, match=r"No space left on device: '.*/checkpoints/6'$") as error:
            checkpoints.wait()
        assert "\n" not in str(error.value)
        assert checkpoints.last == 5
    assert sorted(training.complete_steps(copied)) == [2, 4, 5]
    assert len(list((copied / "checkpoints").iterdir())) == 3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_not_loaded(tmp_path, value, monkeypatch):
    workdir, state = claim(tmp_path), new_state()
    ema = jax.tree.map(lambda x: x, state.ema)
    ema["head"]["convs_1"]["bias"] = ema["head"]["convs_1"]["bias"].at[0].set(value)
    with monkeypatch.context() as patch, training.Checkpoints(workdir) as checkpoints:
        patch.setattr(checkpoints_file, "all_finite", lambda tree: True)
        checkpoints.save(3, state.replace(ema=ema), tiny.batches(), 1.0, wait=True)
    with pytest.raises(training.NonFiniteError, match="parameter head/convs_1/bias is not finite"):
        training.load(tmp_path)


def test_when_none_can_be_read_nothing_is_moved(copied):
    for step in (2, 4, 5):
        truncate(copied / "checkpoints" / str(step))
    with (
        training.Checkpoints(Workdir(copied), notify=lambda message: None) as checkpoints,
        pytest.raises(ValueError, match=r"none of the checkpoints .* of steps 2, 4, 5; accepted: "),
    ):
        checkpoints.restore(abstract(), tiny.batches())
    assert len(list((copied / "checkpoints").iterdir())) == 3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_saved(copied, value):
    state = new_state()
    bad = state.replace(ema=jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(value), state.ema))
    with training.Checkpoints(Workdir(copied)) as checkpoints:
        for args in ((bad, tiny.batches(), 1.0), (state, tiny.batches(), value)):
            with pytest.raises(training.NonFiniteError, match=r"step 7 .*checkpoints/5$"):
                checkpoints.save(7, *args)
        assert list(checkpoints.losses) == [2, 4, 5]


def break_best(path):
    truncate(path / "checkpoints" / "2")


def break_json(path):
    (path / "run.json").write_text('{"model"')


def other_model(path):
    run = json.loads((path / "run.json").read_text())
    run["model"]["features"] = 6
    (path / "run.json").write_text(json.dumps(run))


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (shutil.rmtree, "is not a folder"),
        (lambda path: (path / "run.json").unlink(), "holds no run"),
        (lambda path: shutil.rmtree(path / "checkpoints"), "no complete checkpoint"),
        (break_json, "run.json cannot be read"),
        (break_best, r"checkpoints/2 is damaged.*accepted: other steps, 4, 5$"),
        (other_model, "is damaged, or not of the model in run.json"),
    ],
)
def test_loading_says_what_is_wrong_in_one_line(copied, breakage, message):
    breakage(copied)
    with pytest.raises(ValueError, match=message) as error:
        gen_jax.load(str(copied))
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(copied):
    """And named where it is the one asked for."""
    (copied / "checkpoints" / "2" / "optimizer" / "_METADATA").unlink()
    with pytest.warns(training.DamagedWarning, match=r"checkpoints/2 is .*; step 5 is taken$"):
        assert training.resolve_step(copied) == 5
    with pytest.raises(
        ValueError, match=r"points/2 is damaged: a file .*; accepted: other steps, 4, 5$"
    ):
        training.resolve_step(copied, 2)
    for step in (4, 5):
        shutil.rmtree(copied / "checkpoints" / str(step) / "data")
    with pytest.raises(
        ValueError,
        match=r"points/5 is damaged: a file .*; accepted: another run, .* no other step$",
    ):
        training.resolve_step(copied)


@pytest.mark.parametrize("step", ["first", "2", 2.0, None, True])
def test_what_is_no_step_is_not_the_last(saved, step):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises((ValueError, TypeError), match=r"^step is .*accepted"):
            gen_jax.load(str(saved), step)
        assert training.resolve_step(saved, np.int64(2)) == 2  # type: ignore[arg-type]
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_loading_an_unknown_step_lists_the_known(saved):
    with pytest.raises(
        ValueError, match=r"step is 3, of which .* has no checkpoint; accepted: 2, 4, 5"
    ):
        gen_jax.load(str(saved), 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"batch_size": 16},
            "training.batch_size is 8 there, 16 here; accepted: another folder, or",
        ),
        ({"steps": 40}, "training.steps is 20 there, 40 here; .* resume"),
        (
            {"optimizer": training.OptimizerConfig(clip_norm=None)},
            "training.optimizer.learning_rate is 0.01 there, 0.001 here; .* resume",
        ),
    ],
)
def test_a_folder_of_another_run_is_refused(copied, change, message):
    before = (copied / "run.json").read_text()
    with pytest.raises(ValueError, match=message):
        Workdir(copied).claim(record(**change))
    assert (copied / "run.json").read_text() == before


def test_what_may_change_does(copied):
    workdir = Workdir(copied)
    workdir.claim(record(eval_every=7, log_every=2))
    assert workdir.read()["training"]["eval_every"] == 7
    workdir.claim(record(steps=40), resume=True)
    assert workdir.read()["training"]["steps"] == 40
    with pytest.raises(ValueError, match="batch_size"):
        workdir.claim(record(batch_size=16), resume=True)
    with pytest.raises(ValueError, match=r"data.fingerprint is '1' there, '2' here"):
        workdir.claim(record(steps=40) | {"data": tiny.DATA | {"fingerprint": "2"}}, resume=True)
    workdir.claim(record(batch_size=16), overwrite=True)
    assert training.complete_steps(copied) == {}


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"holds checkpoints but no run\.json"):
            Workdir(tmp_path).claim(record(), overwrite=overwrite)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        Workdir(tmp_path / "file").claim(record())
