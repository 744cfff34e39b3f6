"""A run: resumed bit-identical after any kill, stopped cleanly, refused when it is another."""

import dataclasses
import io
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import gen_jax
from gen_jax import training
from gen_jax.training.workdir import Workdir

from . import tiny

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run that nothing disturbs."""
    path = tmp_path_factory.mktemp("reference")
    result = tiny.train(path)
    assert result.finished
    assert result.step == 20
    return path


def records(path, split):
    return training.read_metrics(Workdir(path), split)


def signalled(number, at):
    """An on_sample that sends this process a signal at a step."""

    def send(step, variables):
        del variables
        if step == at:
            os.kill(os.getpid(), number)

    return send


def test_a_run_learns_and_keeps_its_best_step(reference):
    validation = {r["step"]: r["bits_per_dim"] for r in records(reference, "validation")}
    assert list(validation) == [5, 10, 15, 20]
    assert validation[20] < 0.95 * validation[5]
    assert all(r["count"] == 21 for r in records(reference, "validation"))
    assert [r["step"] for r in records(reference, "train")] == list(range(1, 21))
    steps = training.complete_steps(reference)
    assert steps.items() <= validation.items()
    assert min(validation, key=validation.__getitem__) in steps
    model, variables = gen_jax.load(str(reference))
    result = training.evaluate(
        model,
        variables["params"],
        tiny.evaluation(),
        jax.random.key(0),
        training.LogLikelihood(dropout=False),
    )
    np.testing.assert_allclose(result.bits_per_dim, min(validation.values()), rtol=1e-5)
    assert list((reference / "tensorboard").glob("events*"))


def test_a_finished_run_says_so_and_stays(reference):
    said = io.StringIO()
    before = {file: file.stat().st_mtime_ns for file in reference.glob("checkpoints/*/*/*")}
    result = tiny.train(reference, console=Console(file=said))
    assert result.finished
    assert result.best_bits_per_dim is not None
    assert "is finished at step 20" in said.getvalue()
    assert before == {file: file.stat().st_mtime_ns for file in reference.glob("checkpoints/*/*/*")}


@pytest.mark.parametrize(
    ("number", "at"),
    [(signal.SIGTERM, 7), (signal.SIGINT, 10), (signal.SIGTERM, 20)],
    ids=["between", "at a validation", "at the end"],
)
def test_a_signal_saves_and_the_same_call_goes_on(reference, tmp_path, number, at):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    said = io.StringIO()
    result = tiny.train(
        tmp_path, on_sample=signalled(number, at), console=Console(file=said, width=500)
    )
    assert result.step == at
    assert result.finished == (at == 20)
    name = "SIGTERM" if number == signal.SIGTERM else "Ctrl-C"
    assert f"stopped by {name} at step {at}" in said.getvalue()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert tiny.train(tmp_path).finished
    tiny.assert_equal_runs(tmp_path, reference)
    step = tiny.compiled(tiny.CONFIG)
    assert step._cache_size() == 1, "a resumed run compiles nothing anew"


def test_a_signal_cuts_a_validation_short_and_it_is_made_up(reference, tmp_path):
    def evaluation():
        for i, batch in enumerate(tiny.evaluation()):
            if i == 1 and not training.complete_steps(tmp_path):
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    assert tiny.train(tmp_path, evaluation=evaluation).step == 5
    assert training.complete_steps(tmp_path) == {5: None}
    assert tiny.train(tmp_path).finished
    tiny.assert_equal_runs(tmp_path, reference)
    validation = [{**r, "seconds": 0} for r in records(tmp_path, "validation")]
    assert validation == [{**r, "seconds": 0} for r in records(reference, "validation")]


def spawn(path):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.tiny", str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict"},
    )


def wait_for_steps(process, count):
    lines = []
    while count:
        lines.append(process.stdout.readline())
        assert lines[-1], f"the run ended too early: {''.join(lines)}"
        count -= lines[-1].startswith("reached")


def test_killed_at_a_random_moment_it_ends_the_same(reference, tmp_path):
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    with spawn(tmp_path) as process:
        wait_for_steps(process, moments.randint(1, 16))
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "spl')  # as if torn by the kill
    with spawn(tmp_path) as process:
        wait_for_steps(process, 1)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "the same command goes on from there" in said.replace("\n", " ")
    assert tiny.train(tmp_path).finished
    tiny.assert_equal_runs(tmp_path, reference)
    assert [r["step"] for r in records(tmp_path, "train")] == list(range(1, 21)), f"seed {seed}"


def nan_of_ones(model, variables, batch, key):
    """The likelihood, but NaN where a whole batch is ones."""
    nats, terms = training.LogLikelihood()(model, variables, batch, key)
    return jnp.where(batch["images"].all(), jnp.nan, nats), terms


@pytest.mark.parametrize("at", [12, 15], ids=["between", "at a validation"])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, at):
    images = tiny.make_images(160)
    images[8 * (at - 1) : 8 * at] = 1
    dataset = grain.MapDataset.source(images).map(lambda image: {"images": image}).batch(8)
    said = rf"step {at};.*checkpoints/10$"
    with pytest.raises(training.NonFiniteError, match=said):
        tiny.train(tmp_path, batches=iter(dataset.to_iter_dataset()), objective=nan_of_ones)
    assert list(training.complete_steps(tmp_path)) == [5, 10]
    for leaf in jax.tree.leaves(gen_jax.load(str(tmp_path), "last")[1]):
        assert np.isfinite(leaf).all()


def test_another_run_is_refused_and_left_alone(reference):
    files = {file: file.read_bytes() for file in reference.rglob("*") if file.is_file()}
    model = tiny.MODEL.clone(features=6)
    with pytest.raises(ValueError, match=r"holds another run: model.features is 4 there, 6 here"):
        tiny.train(reference, model=model)
    with pytest.raises(ValueError, match=r"data.name is 'stripes' there, 'dots' here"):
        tiny.train(reference, data=tiny.DATA | {"name": "dots"})
    assert files == {file: file.read_bytes() for file in reference.rglob("*") if file.is_file()}


def test_more_steps_on_request_only(reference, tmp_path):
    config = dataclasses.replace(tiny.CONFIG, steps=10)
    tiny.train(tmp_path, config)
    with pytest.raises(ValueError, match=r"training.steps is 10 there, 20 here"):
        tiny.train(tmp_path)
    assert tiny.train(tmp_path, resume=True).step == 20
    assert tiny.train(tmp_path, overwrite=True).finished
    tiny.assert_equal_runs(tmp_path, reference)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 7, "accumulate": 2}, "batch of 7 cannot be split"),
        ({"steps": 0}, "steps is 0; accepted: 1 or more"),
        ({"keep": 0}, "keep is 0"),
        ({"batch_size": 16}, "the iterator gives batches of 8 images; accepted: 16"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        tiny.train(tmp_path / "run", dataclasses.replace(tiny.CONFIG, **change))


def test_a_thread_trains_without_signals(tmp_path):
    results = []
    config = dataclasses.replace(tiny.CONFIG, sample_every=0)
    thread = threading.Thread(target=lambda: results.append(tiny.train(tmp_path, config)))
    thread.start()
    thread.join()
    assert results[0].finished
