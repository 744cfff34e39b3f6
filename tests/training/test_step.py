"""A training step against what it claims."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_jax import training
from gen_jax.training import devices

from . import tiny
from .toy import Toy, bernoulli

PLAIN = Toy()
SGD = optax.sgd(1.0)
IMAGES = {"images": jnp.asarray(tiny.make_images(16))}
compiled = jax.jit(
    training.train_step,
    static_argnames=("model", "objective", "optimizer", "ema_decay", "accumulate"),
)


def step(current, model=PLAIN, accumulate=1, ema_decay=0.9, key=0, batch=IMAGES):
    return compiled(
        current,
        batch,
        jax.random.key(key),
        model=model,
        objective=bernoulli,
        optimizer=SGD,
        ema_decay=ema_decay,
        accumulate=accumulate,
    )


@functools.cache
def new_state(model=PLAIN):
    return jax.jit(functools.partial(training.init_state, model, SGD))(jax.random.key(0))


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_is_the_whole_batch(accumulate):
    whole, metrics = step(new_state())
    parts, same = step(new_state(), accumulate=accumulate)
    chex.assert_trees_all_close(whole, parts, rtol=1e-5, atol=1e-6)
    assert metrics.keys() == same.keys()
    for name in metrics:
        np.testing.assert_allclose(metrics[name], same[name], rtol=1e-5)


def test_micro_batches_draw_different_dropout():
    model = PLAIN.clone(dropout=0.5)
    twice = {"images": jnp.repeat(IMAGES["images"][:1], 2, axis=0)}
    _, both = step(new_state(model), model, accumulate=2, batch=twice)
    one = step(new_state(model), model, batch={"images": twice["images"][:1]})[1]
    assert both["nats"] != one["nats"]


def test_noise_is_of_the_key_and_the_step():
    model = PLAIN.clone(dropout=0.5)
    start = new_state(model)
    later = start.replace(step=start.step + 1)
    nats = [
        float(step(current, model, key=key)[1]["nats"])
        for current, key in [(start, 0), (start, 0), (later, 0), (start, 1)]
    ]
    assert nats[0] == nats[1]
    assert len(set(nats)) == 3


def test_the_loss_is_minus_the_mean_objective_and_falls():
    config = tiny.OPTIMIZER
    mesh = training.make_mesh(jax.devices()[:1])
    run = devices.compile_train_step(
        mesh,
        model=PLAIN,
        objective=bernoulli,
        optimizer=config,
        num_steps=100,
    )
    current = devices.create_state(PLAIN, config, 100, jax.random.key(0), mesh)
    nats, _ = bernoulli(PLAIN, {"params": current.params}, IMAGES, jax.random.key(0))
    losses = []
    for _ in range(100):
        current, metrics = run(current, IMAGES, jax.random.key(0))
        losses.append(float(metrics["bits_per_dim"]))
    np.testing.assert_allclose(losses[0], -nats.mean() / np.log(2) / 16, rtol=1e-5)
    np.testing.assert_allclose(metrics["half"], metrics["nats"] / 2, rtol=1e-5)
    assert losses[-1] < 0.7 * losses[0]
    assert run._cache_size() == 1  # type: ignore[attr-defined]


def test_the_ema_is_the_documented_average():
    current = new_state()
    expected = jax.device_get(current.ema)
    for t in range(1, 5):
        current, _ = step(current, ema_decay=0.4)
        decay = min(0.4, (1 + t) / (10 + t))
        expected = jax.tree.map(
            lambda old, new, d=decay: d * old + (1 - d) * np.asarray(new), expected, current.params
        )
    chex.assert_trees_all_close(current.ema, expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_computes_and_parameters_stay_float32():
    model = PLAIN.clone(dtype="bfloat16")
    after, metrics = step(new_state(model), model)
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(
        metrics["bits_per_dim"], step(new_state())[1]["bits_per_dim"], rtol=0.05
    )
