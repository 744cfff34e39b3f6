"""The programs that sampling compiles: their options, their copies, and how often."""

import contextlib
import math
import re

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from gen_jax import likelihoods, sampling
from tests.cases import make, one_line_error, perturbed, some_labels
from tests.vaes import vae

pytestmark = pytest.mark.usefixtures("optimized")
BATCH = 8
KEY = jax.random.key(7)


@pytest.mark.parametrize("name", ["PixelCNN", "GatedPixelCNN", "RowLSTM", "DiagonalBiLSTM"])
def test_a_step_copies_no_row(name):
    """XLA updates the rows that a step carries in place, without our options too (a user's jit)."""
    width, batch, features = 40, 8, 8
    model = make(name, "bernoulli", (4, width), features=features)
    draw = jax.jit(lambda variables, key: sampling.sample(model, variables, key, batch))
    program = draw.lower(perturbed(model), KEY).compile().as_text()
    parts = dict(re.findall(r"^%?(\S+) \(.*?\{\n(.*?)^\}", program, re.MULTILINE | re.DOTALL))
    bodies = [parts[name] for name in re.findall(r" while\(.*body=%?([\w.-]+)", program)]
    steps = [body for body in bodies if " while(" not in body and " dot(" in body]
    assert steps
    for shape in re.findall(r"= \w+\[([\d,]+)\]\S* copy\(", "".join(steps)):
        assert math.prod(map(int, shape.split(","))) < width * batch * features, shape


def test_sampling_inside_another_program():
    """In a jit or a vmap of the user's, with or without anything traced, as outside of it."""
    model = make("RowLSTM", "bernoulli")
    variables = perturbed(model)
    keys = jax.random.split(KEY, 2)

    def draw(key, variables=variables):
        return sampling.sample(model, variables, key, 3)

    outside = np.stack([draw(key) for key in keys])
    np.testing.assert_array_equal(jax.jit(draw)(keys[0], variables), outside[0])
    np.testing.assert_array_equal(jax.vmap(draw)(keys), outside)
    np.testing.assert_array_equal(jax.jit(lambda: draw(keys[1]))(), outside[1])


def test_a_second_call_compiles_nothing():
    """Another key, temperature, label, mask, or an equal model made anew: no compilation."""
    compiled = []

    def listen(event, duration, **_):
        if "compile" in event:
            compiled.append((event, duration))

    model = make("GatedPixelCNN", "categorical")
    variables, labels = perturbed(model), some_labels(model, BATCH)
    images = sampling.sample(model, variables, jax.random.key(0), BATCH, labels=labels)
    known = np.zeros(images.shape, bool)
    images = sampling.complete(model, variables, jax.random.key(0), images, known, labels=labels)
    keys, others = [jax.random.key(k) for k in range(3)], 1 - np.asarray(labels)
    other = make("GatedPixelCNN", "categorical")
    assert other is not model
    jax.block_until_ready(images)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for key, temperature in zip(keys, (0.9, 0.5, 0.0), strict=True):
            sampling.sample(other, variables, key, BATCH, labels=others, temperature=temperature)
            sampling.complete(other, variables, key, images, ~known, labels=labels)
        ten = sampling.to_sample(model, variables, keys[0], 10, labels=np.zeros(10, np.int32))
        assert len(list(sampling.run_in_chunks(model, ten, BATCH))) == -(-10 // BATCH)
        assert not compiled
        sampling.sample(model, variables, keys[0], BATCH + 1, labels=np.zeros(BATCH + 1, np.int32))
        assert compiled, "the count would have missed a compilation"
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
    "model",
    [
        vae((2, 2, 1), 2, likelihood=likelihoods.DiscretizedLogisticMixture(3, 2), num_classes=2),
        make("ImageTransformer-full", "categorical-rgb", (1, 2), num_layers=1, num_classes=2),
    ],
    ids=["VAE", "ImageTransformer"],
)
def test_no_nan_on_the_way(model):
    """`jax_debug_nans` finds none: as called, and in a jit of one's own, arguments or constants."""
    variables, labels = perturbed(model), some_labels(model, 2)

    def draw(variables=variables):
        return sampling.sample(model, variables, KEY, 2, labels=labels)

    with jax.debug_nans(True):
        expected = np.asarray(draw())
        np.testing.assert_array_equal(jax.jit(draw)(variables), expected)
        np.testing.assert_array_equal(jax.jit(lambda: draw())(), expected)


def test_any_mesh_will_do():
    """JAX's default with Explicit axes, two axes, and one that `jax.set_mesh` has put in force."""
    model = make("GatedPixelCNN", "bernoulli", (2, 2), num_layers=1)
    variables = perturbed(model)
    expected = np.asarray(sampling.sample(model, variables, KEY, 4))
    one, two = jax.make_mesh((4,), ("batch",)), jax.make_mesh((2, 2), ("x", "y"))
    spread = jax.device_put(variables, NamedSharding(two, PartitionSpec()))
    for mesh, given in ((one, variables), (two, variables), (one, spread)):
        for in_force in (None, one, two):
            with contextlib.nullcontext() if in_force is None else jax.set_mesh(in_force):
                found = sampling.sample(model, given, KEY, 4, mesh=mesh)
                np.testing.assert_array_equal(found, expected)
    with jax.set_mesh(two):
        np.testing.assert_array_equal(sampling.sample(model, variables, KEY, 4), expected)
        with one_line_error(r"inside this jit a mesh of axes \('x', 'y'\) is in force"):
            jax.jit(lambda v: sampling.sample(model, v, KEY, 4, mesh=one))(variables)


@pytest.mark.parametrize("method", ["scan", "fixed_point"])
def test_no_mode_is_searched_at_a_temperature_known_to_be_positive(x64, method):
    """On an accelerator a conditional in a step asks the host; the images are the same."""
    model = make("GatedPixelCNN", "mixture", (2, 2), dtype="float64", num_layers=1)
    variables, labels = perturbed(model), some_labels(model, 2)

    def draw(temperature):
        return sampling.sample(
            model, variables, KEY, 2, labels=labels, temperature=temperature, method=method
        )

    assert " cond[" in str(jax.make_jaxpr(draw)(0.7))
    assert " cond[" not in str(jax.make_jaxpr(lambda: draw(0.7))())
    np.testing.assert_array_equal(jax.jit(draw)(0.7), draw(0.7))
    np.testing.assert_array_equal(jax.jit(draw)(0.0), draw(0.0))
