"""A training step, an evaluation step, and the optimiser, against what they claim."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_jax import training
from gen_jax.training import devices, state
from gen_jax.training.evaluation import Scores

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
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
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
    for a, b in zip(jax.tree.leaves(current.ema), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


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


def _with(config, name, value):
    """What a type checker would not let by."""
    object.__setattr__(config, name, value)
    return config


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
    config = _with(training.OptimizerConfig(), name, value)
    with pytest.raises((ValueError, TypeError), match=f"^{name} is {value!r}; ") as error:
        training.make_optimizer(config, 10)
    assert f"accepted: {accepted}" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 5.5), ("batch_size", True), ("keep", "2"), ("eval_every", 0), ("seed", 2**64)],
)
def test_a_wrong_training_field_is_named(name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name} is {value!r}; accepted: "):
        _with(training.TrainConfig(), name, value).__post_init__()


def test_a_score_that_is_not_finite_is_no_result():
    with pytest.raises(training.NonFiniteError, match=r"1 of 3 images .*: image 1 has nan nats"):
        Scores(np.array([-1.0, np.nan, -2.0]), {}, tiny.SHAPE).mean()
    alone = Scores(np.array([-1.0]), {}, tiny.SHAPE).mean().as_dict()
    assert alone["nats_standard_error"] is None, "JSON has no NaN"


def brightness(model, variables, batch, key):
    """NaN for the padding of `padded`, so that a product with the mask would show."""
    del model, variables, key
    nats = jnp.log(16.5 - batch["images"].sum((1, 2, 3)).astype(jnp.float32))
    nats = jnp.where(batch["images"].max((1, 2, 3)) > 1, jnp.nan, nats)
    return nats, {"double": 2 * nats}


def padded(count):
    for batch in tiny.evaluation(count=count):
        mask = batch["mask"][:, None, None, None]
        yield batch | {"images": np.where(mask, batch["images"], np.uint8(2))}


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 21, 31])
def test_masked_evaluation_is_the_plain_mean(count):
    images = tiny.make_images(count, seed=1).astype(np.float64)
    nats = np.log(16.5 - images.sum((1, 2, 3)))
    result = training.evaluate(PLAIN, {}, padded(count), jax.random.key(0), brightness)
    assert result.count == count
    np.testing.assert_allclose(result.nats, nats.mean(), rtol=1e-6)
    np.testing.assert_allclose(result.terms["double"], 2 * nats.mean(), rtol=1e-6)
    np.testing.assert_allclose(result.bits_per_dim, -nats.mean() / np.log(2) / 16, rtol=1e-6)
    if count > 1:
        error = nats.std(ddof=1) / np.sqrt(count)
        np.testing.assert_allclose(result.nats_standard_error, error, rtol=1e-6)
        bits = error / np.log(2) / 16
        np.testing.assert_allclose(result.bits_per_dim_standard_error, bits, rtol=1e-6)


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ValueError, match="there are 0 batches to evaluate; accepted: one"):
        training.evaluate(PLAIN, {}, [], jax.random.key(0), brightness)


def test_bfloat16_computes_and_parameters_stay_float32():
    model = PLAIN.clone(dtype="bfloat16")
    after, metrics = step(new_state(model), model)
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(
        metrics["bits_per_dim"], step(new_state())[1]["bits_per_dim"], rtol=0.05
    )
