"""The optimiser, its schedules, and the averages that go along."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_jax import training
from gen_jax.training import state

from . import tiny

SGD = optax.sgd(1.0)


def fresh(params, optimizer):
    zero = jnp.zeros((), jnp.int32)
    return state.TrainState(zero, params, params, optimizer.init(params), jnp.zeros(()))


def test_the_running_mean_begins_as_the_plain_mean():
    current, seen = fresh(jnp.zeros(()), SGD), np.random.default_rng(0).normal(-90, 5, 150)
    for count, nats in enumerate(seen.astype(np.float32), start=1):
        current, _ = state.apply_gradients(current, jnp.zeros(()), jnp.asarray(nats), SGD, 0.9)
        if count <= 100:
            np.testing.assert_allclose(current.running_nats, seen[:count].mean(), rtol=1e-5)
    expected = seen[:100].mean()
    for nats in seen[100:]:
        expected = 0.99 * expected + 0.01 * nats
    np.testing.assert_allclose(current.running_nats, expected, rtol=1e-5)


def test_the_ema_forgets_the_initialisation():
    current = fresh(jnp.zeros(()), SGD).replace(ema=jnp.full((), 1e3))
    for _ in range(30):
        current, _ = state.apply_gradients(current, jnp.zeros(()), jnp.zeros(()), SGD, 0.9999)
    assert abs(float(current.ema)) < 1e-3


@pytest.mark.parametrize("clip_norm", [0.5, 100.0, None])
def test_clipping_by_the_global_norm(clip_norm):
    config = training.OptimizerConfig(clip_norm=clip_norm, b1=0.9)
    optimizer = training.make_optimizer(config, 10)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    grads = jax.tree.map(lambda x: 3.0 * x, params)
    current = fresh(params, optimizer)
    after, norm = state.apply_gradients(current, grads, jnp.zeros(()), optimizer, 0.9)
    np.testing.assert_allclose(norm, 3 * np.sqrt(6), rtol=1e-6)
    moment = optax.tree.get(after.opt_state, "mu")
    limit = min(float(norm), clip_norm or np.inf)
    np.testing.assert_allclose(optax.tree.norm(moment), 0.1 * limit, rtol=1e-5)


def test_weight_decay_spares_biases():
    config = training.OptimizerConfig(weight_decay=0.5, schedule="constant", warmup_steps=0)
    optimizer = training.make_optimizer(config, 10)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    current = fresh(params, optimizer)
    zeros = jax.tree.map(jnp.zeros_like, params)
    after, _ = state.apply_gradients(current, zeros, jnp.zeros(()), optimizer, 0.9)
    np.testing.assert_array_equal(after.params["bias"], 1.0)
    np.testing.assert_allclose(after.params["kernel"], 1 - 0.5 * 1e-3, rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        ("cosine", 0.01),
        ("constant", 1.0),
        ("inverse_sqrt", np.sqrt(0.1)),
        ("exponential", 0.999995**90),
    ],
)
def test_schedules(schedule, last):
    config = training.OptimizerConfig(learning_rate=2.0, schedule=schedule, warmup_steps=10)
    rate = training.make_schedule(config, 100)
    np.testing.assert_allclose(rate(0), 0.2, rtol=1e-6)
    np.testing.assert_allclose(rate(9), 2.0, rtol=1e-5)
    np.testing.assert_allclose(rate(99), 2.0 * last, rtol=1e-3)
    assert float(rate(50)) <= 2.0


def test_a_rate_that_decays_a_step_at_a_time_is_exact_after_many():
    config = training.OptimizerConfig(learning_rate=1e-3, schedule="exponential", warmup_steps=0)
    rate = training.make_schedule(config, 2_000_000)
    for steps in (1, 500_000, 2_000_000):
        np.testing.assert_allclose(rate(steps - 1), 1e-3 * 0.999995**steps, rtol=3e-6)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("learning_rate", 0.0, "numbers in (0, inf)"),
        ("learning_rate", np.inf, "numbers in (0, inf)"),
        ("learning_rate", "fast", "numbers in"),
        ("clip_norm", -1.0, "numbers in (0"),
        ("clip_norm", np.nan, "numbers in"),
        ("ema_decay", 1.0, "numbers in [0, 1)"),
        ("eps", np.inf, "numbers in (0, inf)"),
        ("eps", 0.0, "numbers in (0, inf)"),
        ("eps_root", -1e-8, "numbers in [0, inf)"),
        ("decay_rate", 1.5, "numbers in (0, 1]"),
        ("b1", None, "numbers in [0, 1)"),
        ("weight_decay", np.inf, "numbers in [0, inf)"),
        ("final_fraction", np.nan, "numbers in"),
        ("final_fraction", 1.5, "numbers in [0, 1]"),
        ("warmup_steps", 2.5, "whole numbers of at least 0"),
        ("schedule", "linear", "cosine, constant"),
    ],
)
def test_a_wrong_optimizer_field_is_named(name, value, accepted):
    config = tiny.with_value(training.OptimizerConfig(), name, value)
    with pytest.raises((ValueError, TypeError), match=f"^{name} is {value!r}; ") as error:
        training.make_optimizer(config, 10)
    assert f"accepted: {accepted}" in str(error.value)
