"""Auto-encoders train on what autoregressive models train on: resume, devices, running mean."""

import dataclasses
import itertools

import chex
import jax
import numpy as np
import pytest

from gen_jax import likelihoods, models, training
from gen_jax.training import devices
from gen_jax.training.workdir import Workdir

from . import tiny

COMMON = {"likelihood": likelihoods.Bernoulli(), "num_latents": 3, "hidden": (6,)}
BITS = models.VAE(tiny.SHAPE, **COMMON, latents="bernoulli")
SCORE = training.ELBO(2, estimator="score_function", baseline="constant")
CONFIG = dataclasses.replace(tiny.CONFIG, eval_every=10)
RUNS = {
    "bits": (BITS, SCORE),
    "gaussian": (models.VAE(tiny.SHAPE, **COMMON), training.IWAE(3)),
    "codes": (
        models.ImplicitAutoEncoder(tiny.SHAPE, **COMMON, num_codes=43),
        training.LearnedCodes(),
    ),
}


def batches():
    """Those of `tiny`, with the numbers of the images."""
    return tiny.batches(numbered=True)


def train(workdir, name, **kwargs):
    model, objective = RUNS[name]
    kwargs = {"config": CONFIG, "objective": objective, "batches": batches()} | kwargs
    return tiny.train(workdir, model=model, **kwargs)


class Killed(BaseException):
    """Stands for kill -9: nothing is saved on the way out."""


@pytest.mark.parametrize("name", RUNS)
def test_resume_is_bit_identical(tmp_path, name):
    def kill(step, variables):
        del variables
        if step == 13:
            raise Killed

    train(tmp_path / "whole", name)
    with pytest.raises(Killed):
        train(tmp_path / "killed", name, on_sample=kill)
    result = train(tmp_path / "killed", name)
    assert result.finished
    model = RUNS[name][0]
    both = [tmp_path / "whole", tmp_path / "killed"]
    tiny.assert_equal_runs(*both, model=model)
    curves = [
        [(r["step"], r["bits_per_dim"]) for r in training.read_metrics(Workdir(path))]
        for path in both
    ]
    assert curves[0] == curves[1]
    assert [step for step, _ in curves[0]] == sorted(step for step, _ in curves[0])


def test_the_state_keeps_the_running_mean(tmp_path):
    train(tmp_path, "bits")
    nats = [r["nats"] for r in training.read_metrics(Workdir(tmp_path), "train")]
    leaves, _ = tiny.read_leaves(tmp_path, model=BITS)
    assert any(np.shape(leaf) == () and np.isclose(leaf, np.mean(nats)) for leaf in leaves)
    record = training.read_metrics(Workdir(tmp_path), "validation")[-1]
    assert len(record["kl_per_latent"]) == 3
    assert np.isclose(sum(record["kl_per_latent"]), record["kl"], rtol=1e-5)
    assert np.isclose(record["reconstruction"] - record["kl"], record["nats"], rtol=1e-5)


@pytest.mark.skipif(jax.device_count() < 4, reason="fewer than four devices")
@pytest.mark.parametrize("name", RUNS)
def test_four_devices_train_what_one_trains(name):
    model, objective = RUNS[name]
    examples = tiny.make_images()

    def run(mesh):
        step = devices.compile_train_step(
            mesh, model=model, objective=objective, optimizer=tiny.OPTIMIZER, num_steps=20
        )
        state = devices.create_state(model, tiny.OPTIMIZER, 20, jax.random.key(0), mesh, examples)
        for batch in itertools.islice(batches(), 3):
            state, _ = step(state, devices.put_batch(batch, mesh), jax.random.key(1))
        return jax.device_get(state)

    one, four = run(training.make_mesh(jax.devices()[:1])), run(training.make_mesh())
    chex.assert_trees_all_close(one, four, rtol=1e-4, atol=1e-5)


def test_accumulation_sees_every_image_with_its_own_code(tmp_path):
    config = training.TrainConfig(
        steps=4, batch_size=8, accumulate=2, eval_every=4, eval_batch_size=8, log_every=1
    )
    train(tmp_path / "two", "codes", config=config)
    whole = training.TrainConfig(
        steps=4, batch_size=8, eval_every=4, eval_batch_size=8, log_every=1
    )
    train(tmp_path / "one", "codes", config=whole)
    curves = [
        [r["bits_per_dim"] for r in training.read_metrics(Workdir(tmp_path / path), "train")]
        for path in ("one", "two")
    ]
    np.testing.assert_allclose(*curves, rtol=1e-5)


def test_another_objective_is_another_run(tmp_path):
    train(tmp_path, "gaussian")
    with pytest.raises(ValueError, match=r"objective\.num_samples is 3 there, 4 here"):
        train(tmp_path, "gaussian", objective=training.IWAE(4))


@pytest.mark.parametrize("warmup", [0, 7])
def test_the_stages_of_burda(warmup):
    """3^i parts at 10^(−i/7) of the peak, after a linear warm-up that reaches the peak."""
    config = training.OptimizerConfig(schedule="stages", warmup_steps=warmup, learning_rate=1e-3)
    schedule = training.make_schedule(config, 3280 + warmup)
    for step in range(warmup):
        np.testing.assert_allclose(schedule(step), 1e-3 * (step + 1) / warmup, rtol=1e-5)
    # With a warm-up the schedule counts from 1: its last step is the first at the peak.
    starts = [warmup - (warmup > 0) + (3**i - 1) // 2 for i in range(8)]
    for i, start in enumerate(starts):
        expected = 1e-3 * 10 ** (-i / 7)
        end = start + 3**i - 1
        np.testing.assert_allclose([schedule(start), schedule(end)], expected, rtol=1e-5)
