"""Checkpoints: complete or absent, the best kept, readable on other devices, never not finite."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gen_jax
from gen_jax import models, training
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
    return {"model": models.to_dict(tiny.MODEL), "data": tiny.DATA, "training": config}


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
        checkpoints.save(6, new_state(), tiny.batches(), 0.5, wait=True)
        assert checkpoints.losses == {6: 0.5}


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


@pytest.mark.parametrize("cut", ["arrays", "data"])
def test_a_truncated_checkpoint_falls_back_one_step_and_says_so(copied, cut):
    broken = copied / "checkpoints" / "5"
    if cut == "arrays":
        truncate(broken)
    else:
        (broken / "data" / "process_0-of-1.json").write_text('{"next')
    said, data = [], tiny.batches()
    with training.Checkpoints(Workdir(copied), notify=said.append) as checkpoints:
        state = checkpoints.restore(abstract(), data)
        assert state is not None
        assert state.step == 4
        assert data.get_state() == {"next_index": 4}
        assert list(checkpoints.losses) == [2, 4]
        checkpoints.save(5, state, data, 4.0, wait=True)  # its place is free again
    assert "checkpoint 5" in said[0]
    assert "damaged" in said[0]
    assert said[1] == "going on from step 4 instead of step 5"
    assert (copied / "damaged" / "5").is_dir()


def test_when_none_can_be_read_nothing_is_moved(copied):
    for step in (2, 4, 5):
        truncate(copied / "checkpoints" / str(step))
    with (
        training.Checkpoints(Workdir(copied), notify=lambda message: None) as checkpoints,
        pytest.raises(ValueError, match=r"none of the checkpoints .*: steps 2, 4, 5$"),
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
        (break_json, "run.json is damaged"),
        (break_best, r"checkpoints/2 is damaged.*complete steps: 2, 4, 5"),
        (other_model, "is damaged, or not of the model in run.json"),
    ],
)
def test_loading_says_what_is_wrong_in_one_line(copied, breakage, message):
    breakage(copied)
    with pytest.raises(ValueError, match=message) as error:
        gen_jax.load(str(copied))
    assert "\n" not in str(error.value)


def test_loading_an_unknown_step_lists_the_known(saved):
    with pytest.raises(ValueError, match="no checkpoint of step 3; it has: 2, 4, 5"):
        gen_jax.load(str(saved), 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 16}, "training.batch_size is 8 there, 16 here; choose another folder, or"),
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
