"""Training on four devices is training on one."""

import itertools

import jax
import numpy as np
import pytest

from gen_jax import training
from gen_jax.training import devices

from . import tiny
from .test_step import Toy, bernoulli

ONE = training.make_mesh(jax.devices()[:1])
ALL = training.make_mesh()


def run(mesh, steps=3):
    step = devices.compile_train_step(
        mesh,
        model=tiny.MODEL,
        objective=training.log_likelihood,
        optimizer=tiny.OPTIMIZER,
        num_steps=tiny.CONFIG.steps,
    )
    state = devices.create_state(
        tiny.MODEL, tiny.OPTIMIZER, tiny.CONFIG.steps, jax.random.key(0), mesh
    )
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


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
def test_evaluation_is_the_same_on_all_devices(alone):
    results = [
        training.evaluate(
            tiny.MODEL,
            jax.device_get(alone[0].ema),
            tiny.evaluation(),
            jax.random.key(0),
            training.log_likelihood_without_dropout,
            mesh,
        )
        for mesh in (ONE, ALL)
    ]
    assert results[0].count == results[1].count == 21
    np.testing.assert_allclose(results[0].nats, results[1].nats, rtol=1e-5)


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
def test_a_batch_that_cannot_be_split_is_named():
    with pytest.raises(ValueError, match=f"batch of 5 cannot be split over {ALL.size} devices;"):
        devices.put_batch({"images": tiny.make_images(5)}, ALL)
    with pytest.raises(ValueError, match=f"multiples of {3 * ALL.size}"):
        devices.check_batch_size(2 * ALL.size, ALL, accumulate=3)


def test_no_cluster_is_one_line():
    with pytest.raises(ValueError, match=r"^no cluster to join: [^\n]*$"):
        training.initialize_distributed()
