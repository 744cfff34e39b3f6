"""Sampling and completing: labels, temperatures, masks, chunks, devices."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import likelihoods, sampling
from gen_jax.precision import matmul_precision
from tests.cases import (
    MODELS,
    WITH_BLOCKS,
    by_site,
    every_model,
    make,
    one_line_error,
    perturbed,
    some_images,
    some_labels,
    whole_image_params,
)
from tests.compilation import optimized
from tests.sampling.in_double import BATCH, KEY, complete, in_double, sample


def draws_from_whole_image(model, variables, images, labels, temperature=1.0):
    """Each site drawn again from the finished images' whole-image parameters, [B, N, V]."""
    ids = jnp.arange(len(images), dtype=jnp.int32)
    params = whole_image_params(model, variables, jnp.asarray(images, jnp.int32), labels)
    noise = sampling.site_noise(model, KEY, ids)
    sites = by_site(model, jnp.asarray(images, jnp.int32))
    known = jnp.zeros(sites.shape, bool)
    temperature = jnp.asarray(temperature, params.dtype)
    return model.likelihood.draw(params, noise, temperature, sites, known)


_LEVELS = likelihoods.Categorical(256)
# As everywhere but in these tests, where it takes seconds: one convolutional, one recurrent model
# and one with attention.
OPTIMIZED = ("GatedPixelCNN", "DiagonalBiLSTM", "ImageTransformer-2d")


@pytest.mark.parametrize(
    ("name", "case", "likelihood"),
    [
        (name, "mixture" if MODELS[name].whole_pixels else "categorical-rgb", _LEVELS)
        for name in MODELS
    ]
    + [("RowLSTM", "mixture-rgb", likelihoods.DiscretizedLogisticMixture(256, 3))],
)
def test_float32_sites_are_draws_of_the_whole_image(name, case, likelihood):
    """At most 1 site in 1,000 differs when drawn again from the finished image's parameters.

    With the precision in which that is promised on every device.
    """
    model = make(name, case, (8, 8), likelihood=likelihood, num_layers=1)
    variables, labels = perturbed(model), some_labels(model, 32)
    with (
        optimized() if name in OPTIMIZED else contextlib.nullcontext(),
        matmul_precision("highest"),  # of `draws_from_whole_image`, which is compiled here
    ):
        images = sample(model, variables, 32, precision="highest")
        again = draws_from_whole_image(model, variables, images, labels)
    assert images.dtype == np.uint8
    different = np.mean(np.any(np.asarray(again) != by_site(model, images), axis=-1))
    assert different <= 1e-3


@every_model
def test_labels_decide(x64, name):
    """Same noise, another label, another image; and each image has its own label."""
    model = in_double(name, "categorical")
    variables = perturbed(model)
    zeros, ones = (np.full(BATCH, y, np.int32) for y in (0, 1))
    images = [sample(model, variables, labels=labels) for labels in (zeros, ones, zeros)]
    assert (images[0] != images[1]).any()
    np.testing.assert_array_equal(images[0], images[2])
    mixed = sample(model, variables, labels=np.arange(BATCH, dtype=np.int32) % 2)
    np.testing.assert_array_equal(mixed[::2], images[0][::2])
    np.testing.assert_array_equal(mixed[1::2], images[1][1::2])


def test_completion_in_chunks_is_completion(x64):
    """Chunks that do not divide, each image with its own label and what is known of it."""
    model = in_double("GatedPixelCNN", "categorical")
    variables, images = perturbed(model), np.asarray(some_images(model, 7), np.uint8)
    known, labels = np.random.default_rng(0).random(images.shape) < 0.4, np.arange(7) % 2
    whole = complete(model, variables, images, known, labels=labels)
    request = sampling.to_complete(model, variables, KEY, images, known, labels=labels)
    chunks = [chunk.images for chunk in sampling.run_in_chunks(model, request, 4)]
    assert [len(chunk) for chunk in chunks] == [4, 3]
    assert {chunk.dtype.name for chunk in chunks} == {"uint8"}
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_temperature_may_be_traced(x64):
    """Under a jit and under a vmap over temperatures, 0 among them."""
    model = in_double("GatedPixelCNN", "mixture")
    variables, labels = perturbed(model), some_labels(model, BATCH)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=0)
    def draw(temperature):
        return sampling.sample(model, variables, KEY, BATCH, labels=labels, temperature=temperature)

    temperatures = (0.0, 0.5, 1.0)
    expected = [sample(model, variables, temperature=t) for t in temperatures]
    np.testing.assert_array_equal(draw(jnp.asarray(temperatures)), expected)
    np.testing.assert_array_equal(draw(jnp.asarray([0, 1])), [expected[0], expected[2]])


def test_another_key_gives_other_images(x64):
    model = make("GatedPixelCNN", "bernoulli", dtype="float64")
    variables = perturbed(model)
    a, b = (sampling.sample(model, variables, jax.random.key(k), BATCH) for k in (0, 1))
    assert (np.asarray(a) != np.asarray(b)).any()


@pytest.mark.parametrize(
    ("name", "case", "method"),
    [(name, "categorical", "scan") for name in MODELS]
    + [(name, "categorical", "block_fixed_point") for name in WITH_BLOCKS]
    + [("PixelCNN", "mixture", "fixed_point")],
)
def test_four_devices_draw_the_same_images(x64, name, case, method):
    """A mesh of four: equal to one device, and an image does not know where it is drawn."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    model = in_double(name, case)
    variables = perturbed(model)
    alone = sample(model, variables, method=method)
    np.testing.assert_array_equal(sample(model, variables, method=method, mesh=mesh), alone)
    if method != "fixed_point" and MODELS[name].multiple == 1:  # else it takes long to compile
        known = np.arange(model.image_shape[1])[:, None] < 2
        np.testing.assert_array_equal(
            complete(model, variables, 1 - alone % 2, known, method=method, mesh=mesh),
            complete(model, variables, 1 - alone % 2, known, method=method),
        )
    with one_line_error("the batch is 6 images; accepted, over 4 devices"):
        sample(model, variables, 6, mesh=mesh)


def test_known_broadcasts(x64):
    """A mask of a row, of an image, of one channel: as if written out, before a model sees it."""
    model = in_double("GatedPixelCNN", "categorical-rgb")
    variables = perturbed(model)
    images = np.asarray(some_images(model, BATCH))
    height, width, _ = model.image_shape
    for known in (
        np.arange(height)[:, None, None] < 2,
        np.arange(width)[:, None] < 2,
        np.array([True, False, False]),
        np.array(True),
        jnp.asarray([False, False, True]),
    ):
        written_out = np.broadcast_to(known, images.shape)
        found = complete(model, variables, images, known)
        np.testing.assert_array_equal(found, complete(model, variables, images, written_out))
        np.testing.assert_array_equal(found[written_out], images[written_out])


@every_model
def test_temperature_zero_takes_the_most_probable_level(x64, name):
    """Every site is the mode of its own distribution, and one key is like another."""
    model = in_double(name, "categorical")
    variables, labels = perturbed(model), some_labels(model, BATCH)
    images = sample(model, variables, temperature=0.0)
    params = whole_image_params(model, variables, jnp.asarray(images, jnp.int32), labels)
    np.testing.assert_array_equal(by_site(model, images)[..., 0], np.argmax(params, axis=-1))


def test_temperature_scales_the_logits(x64):
    """Sampling at T is sampling at 1 with all logits divided by T."""
    model = make("GatedPixelCNN", "categorical", dtype="float64")
    variables = perturbed(model)
    head = variables["params"]["head"]
    last = max(head)
    cold = {**head, last: jax.tree.map(lambda x: x / 0.5, head[last])}
    cold = {"params": {**variables["params"], "head": cold}}
    np.testing.assert_array_equal(
        sample(model, variables, temperature=0.5), sample(model, cold, temperature=1.0)
    )
