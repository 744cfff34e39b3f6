"""Training on four devices is training on one."""

import itertools
import re

import jax
import numpy as np
import pytest

from gen_jax import likelihoods, models, objectives, training
from gen_jax.training import devices

from . import tiny
from .toy import Toy, bernoulli

ONE = training.make_mesh(jax.devices()[:1])
ALL = training.make_mesh()


COMMON = {"image_shape": tiny.SHAPE, "likelihood": tiny.MODEL.likelihood, "dropout": 0.2}
OTHERS = [
    models.DiagonalBiLSTM(**COMMON, features=4, num_layers=1, first_kernel_size=3),
    models.ImageTransformer(**COMMON, features=8, num_layers=1, query_block=8),
]


def run(mesh, model=tiny.MODEL, steps=3):
    step = devices.compile_train_step(
        mesh,
        model=model,
        objective=training.LogLikelihood(),
        optimizer=tiny.OPTIMIZER,
        num_steps=tiny.CONFIG.steps,
    )
    state = devices.create_state(model, tiny.OPTIMIZER, tiny.CONFIG.steps, jax.random.key(0), mesh)
    for batch in itertools.islice(tiny.batches(), steps):
        state, metrics = step(state, devices.put_batch(batch, mesh), jax.random.key(1))
    assert step._cache_size() == 1  # type: ignore[attr-defined]
    return state, metrics


@pytest.fixture(scope="module")
def alone():
    return run(ONE)


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
def test_as_many_devices_as_there_are_give_the_same_parameters(alone):
    (state, metrics), (others, same) = alone, run(ALL)
    assert tiny.MODEL.dropout > 0
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(others), strict=True):
        assert len(b.sharding.device_set) == ALL.size
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], same["grad_norm"], rtol=1e-4)


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
@pytest.mark.parametrize("model", OTHERS, ids=lambda model: type(model).__name__)
def test_every_kind_of_model_trains_on_all_devices(model):
    # The scores, not the parameters: a key's bias has a gradient of nothing but rounding, which
    # Adam makes large, and no effect.
    start = devices.create_state(model, tiny.OPTIMIZER, 20, jax.random.key(0), ONE)
    images, score = tiny.make_images(), jax.jit(objectives.log_likelihood, static_argnums=0)
    initial, one, four = (
        score(model, {"params": jax.device_put(state.params, jax.devices()[0])}, images)
        for state in (start, run(ONE, model)[0], run(ALL, model)[0])
    )
    np.testing.assert_allclose(one, four, rtol=1e-4)
    assert np.abs(one - initial).mean() > 100 * np.abs(one - four).mean()


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
@pytest.mark.parametrize("batch", [100, 64, 72])
def test_images_side_by_side_stay_on_their_device(batch):
    """Whatever the batch: no device scores, or even sees, the images of another."""
    model = models.DiagonalBiLSTM((3, 4, 1), likelihoods.Bernoulli(), features=4, num_layers=1)
    images = devices.put_batch({"images": np.zeros((batch, 3, 4, 1), np.uint8)}, ALL)["images"]
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    score = jax.jit(objectives.log_likelihood, static_argnums=0)
    program = score.lower(model, variables, images).compile().as_text()
    for collective in ("all-to-all", "all-gather", "collective-permute"):
        assert collective not in program


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
def test_accumulation_moves_no_rows_between_devices():
    mesh = training.make_mesh(jax.devices()[:2])
    step = devices.compile_train_step(
        mesh,
        model=Toy(),
        objective=bernoulli,
        optimizer=tiny.OPTIMIZER,
        num_steps=3,
        accumulate=2,
    )
    state = devices.abstract_state(Toy(), tiny.OPTIMIZER, 3, mesh)
    batch = devices.put_batch(next(tiny.batches()), mesh)
    program = step.lower(state, batch, jax.random.key(0)).compile().as_text()  # type: ignore[attr-defined]
    assert "all-reduce" in program
    for collective in ("all-to-all", "all-gather", "collective-permute"):
        assert collective not in program


def test_ynnpack_takes_over_no_convolution_of_a_step(optimized):
    """It is slow at the gradient of a kernel; what it fuses is in computations of its own."""
    # Small convolutions it leaves alone.
    model = models.PixelCNN((28, 28, 1), likelihoods.Bernoulli(), features=32, num_layers=1)
    step = devices.compile_train_step(
        ONE, model=model, objective=training.LogLikelihood(), optimizer=tiny.OPTIMIZER, num_steps=3
    )
    state = devices.abstract_state(model, tiny.OPTIMIZER, 3, ONE)
    batch = {"images": jax.ShapeDtypeStruct((16, *model.image_shape), np.uint8)}
    program = step.lower(state, batch, jax.random.key(0)).compile().as_text()  # type: ignore[attr-defined]
    fused = re.findall(r"^%fused_computation.*?^}", program, re.MULTILINE | re.DOTALL)
    assert " convolution(" in program
    assert not any(" convolution(" in computation for computation in fused)


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
def test_evaluation_is_the_same_on_all_devices(alone):
    results = [
        training.evaluate(
            tiny.MODEL,
            jax.device_get(alone[0].ema),
            tiny.evaluation(),
            jax.random.key(0),
            training.LogLikelihood(dropout=False),
            mesh,
        )
        for mesh in (ONE, ALL)
    ]
    assert results[0].count == results[1].count == 21
    np.testing.assert_allclose(results[0].nats, results[1].nats, rtol=1e-5)


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
def test_a_batch_that_cannot_be_split_is_named():
    with pytest.raises(ValueError, match=f"batch_size is 5; accepted, on {ALL.size} devices"):
        devices.put_batch({"images": tiny.make_images(5)}, ALL)
    with pytest.raises(ValueError, match=f"multiples of {3 * ALL.size}"):
        devices.check_batch_size(2 * ALL.size, ALL, accumulate=3)


def test_no_cluster_is_one_line():
    with pytest.raises(ValueError, match=r"^there is no cluster to join: [^\n]*$"):
        training.initialize_distributed()
