"""A run: resumed bit-identical after any kill, stopped cleanly, refused when it is another."""

import dataclasses
import io
import itertools
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
from gen_jax.training import devices
from gen_jax.training.workdir import Workdir

from . import tiny

pytestmark = pytest.mark.usefixtures("as_from_a_terminal")

ROOT = pathlib.Path(__file__).parents[2]


def records(path, split):
    return training.read_metrics(Workdir(path), split)


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
    ("number", "at", "options"),
    [
        (signal.SIGTERM, 7, grain.ReadOptions()),  # batches read ahead are not lost
        (signal.SIGINT, 10, tiny.AT_ONCE),
        (signal.SIGHUP, 20, tiny.AT_ONCE),
    ],
    ids=["between", "at a validation", "at the end"],
)
def test_a_signal_saves_and_the_same_call_goes_on(
    request, reference, tmp_path, number, at, options
):
    if signal.getsignal(number) == signal.SIG_IGN:  # as under nohup, and a run leaves it so
        signal.signal(number, signal.SIG_DFL)
        request.addfinalizer(lambda: signal.signal(number, signal.SIG_IGN))
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    said = io.StringIO()
    result = tiny.train(
        tmp_path,
        batches=tiny.batches(options=options),
        on_sample=tiny.signalled(number, at),
        console=Console(file=said, width=500),
    )
    assert result.step == at
    assert result.finished == (at == 20)
    assert result.signal == number
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert f"stopped by {name} at step {at}" in said.getvalue()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert tiny.train(tmp_path, batches=tiny.batches(options=options)).finished
    tiny.assert_equal_runs(tmp_path, reference)
    step = tiny.compiled(tiny.CONFIG)
    assert step._cache_size() == 1, "a resumed run compiles nothing anew"


@pytest.mark.parametrize("at", [5, 20], ids=["the first", "the last"])
def test_a_signal_cuts_a_validation_short_and_it_is_made_up(reference, tmp_path, at):
    drawn, validations = [], itertools.count(5, 5)

    def evaluation():
        step = next(validations)
        for i, batch in enumerate(tiny.evaluation()):
            if i == 1 and step == at:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    result = tiny.train(
        tmp_path, evaluation=evaluation, on_sample=lambda step, variables: drawn.append(step)
    )
    assert result.step == at
    assert not result.finished
    assert training.complete_steps(tmp_path)[at] is None
    assert drawn == list(range(1, at)), "nothing is drawn once a signal has come"
    assert tiny.train(tmp_path).finished
    tiny.assert_equal_runs(tmp_path, reference)
    validation = [{**r, "seconds": 0} for r in records(tmp_path, "validation")]
    assert validation == [{**r, "seconds": 0} for r in records(reference, "validation")]


def test_a_signal_before_the_first_step_begins_nothing(tmp_path, monkeypatch):
    def create(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return make(*arguments)

    make, said = devices.create_state, io.StringIO()
    monkeypatch.setattr(devices, "create_state", create)
    result = tiny.train(tmp_path, console=Console(file=said, width=500))
    assert (result.step, result.signal) == (0, signal.SIGTERM)
    assert "stopped by SIGTERM before the first step" in said.getvalue()
    assert training.complete_steps(tmp_path) == {}


def test_what_is_beside_the_run_does_not_end_it(reference, tmp_path, monkeypatch):
    """Pictures fail, the terminal is of ASCII and then gone, TensorBoard's disk is full, the
    folder is asked for by another run: the run ends as if nothing was."""

    class Terminal(io.TextIOWrapper):
        def write(self, text):
            if training.complete_steps(tmp_path).keys() & {15, 20}:
                raise BrokenPipeError
            return super().write(text)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    def draw(step, variables):
        if step == 3:
            with pytest.raises(ValueError, match=f"in use by process {os.getpid()}"):
                tiny.train(tmp_path, dataclasses.replace(tiny.CONFIG, steps=9), overwrite=True)
        raise RuntimeError("no\nfont")

    output = io.BytesIO()
    monkeypatch.setattr("tensorboardX.SummaryWriter.add_scalar", fail)
    result = tiny.train(
        tmp_path, on_sample=draw, console=Console(file=Terminal(output, "ascii"), width=500)
    )
    assert result.finished
    said = output.getvalue().decode()
    assert "warning: no samples of step 1: no font" in said
    assert "events are not written any more: [Errno 28] No space left" in said
    assert "validation 0." in said
    assert " ? 0.0" in said
    tiny.assert_equal_runs(tmp_path, reference)


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
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "spl')  # as if torn by the kill
    with spawn(tmp_path) as process:
        wait_for_steps(process, 1)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGTERM, said
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


def test_a_validation_that_is_not_finite_stops_the_run(tmp_path):
    times = itertools.count(1)

    def evaluation():
        ones = next(times) > 1
        for batch in tiny.evaluation():
            yield batch | ({"images": np.ones_like(batch["images"])} if ones else {})

    said = r"^validation at step 10: .* nan nats; the last good checkpoint is .*checkpoints/5$"
    with pytest.raises(training.NonFiniteError, match=said):
        tiny.train(tmp_path, evaluation=evaluation, eval_objective=nan_of_ones)
    assert list(training.complete_steps(tmp_path)) == [5]


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
    (tmp_path / "checkpoints" / "10" / "_CHECKPOINT_METADATA").write_text("")
    assert tiny.train(tmp_path, resume=True).step == 20
    record = Workdir(tmp_path).read()
    assert [(x["until"], x["training"]["steps"]) for x in record["earlier"]] == [(5, 10)]
    assert tiny.train(tmp_path, overwrite=True).finished
    tiny.assert_equal_runs(tmp_path, reference)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"batch_size": 7, "accumulate": 2},
            "batch_size is 7; accepted, on 1 devices x 2 micro-batches: multiples of 2",
        ),
        ({"steps": 0}, "steps is 0; accepted: whole numbers of at least 1"),
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
