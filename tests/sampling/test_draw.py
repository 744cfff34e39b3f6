"""All methods, one distribution: equal images, exact completion, temperatures."""

import contextlib
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import NamedSharding, PartitionSpec

from gen_jax import likelihoods, sampling
from gen_jax.models.shared.protocol import has_block_view
from gen_jax.precision import matmul_precision
from gen_jax.sampling.methods import methods_of
from tests.cases import (
    FEW,
    MODELS,
    by_site,
    every_model,
    generation_order,
    make,
    one_line_error,
    perturbed,
    some_images,
    some_labels,
    whole_image_params,
)
from tests.compilation import optimized
from tests.vaes import vae

METHODS = ("scan", "naive", "fixed_point")
BATCH = 8
KEY = jax.random.key(7)
WITH_BLOCKS = [name for name in MODELS if has_block_view(make(name, "bernoulli"))]


def complete(model, variables, images, known, **options):
    """As int32, which `sample` uses inside: one compiled program for both."""
    images = jnp.asarray(images, jnp.int32)
    options = {"labels": some_labels(model, len(images)), **options}
    return np.asarray(sampling.complete(model, variables, KEY, images, known, **options))


def sample(model, variables, count=BATCH, **options):
    options = {"labels": some_labels(model, count), **options}
    return np.asarray(sampling.sample(model, variables, KEY, count, **options))


def in_double(name, case):
    """The model in float64 that all tests of a case share, so that its samplers compile once."""
    two = case == "categorical" and MODELS[name].depth == "num_layers"
    return make(name, case, dtype="float64", num_layers=2 if two else 1)


# Equal images.


@pytest.fixture(scope="module", params=FEW, ids="-".join)
def double(request):
    """Model and variables in float64; of module scope, so that a case compiles once."""
    with jax.enable_x64(True):
        model = in_double(*request.param)
        return model, perturbed(model)


def run(model, variables, images, known, labels, method, temperature=1.0):
    ids = np.arange(len(images), dtype=np.int32)
    request = sampling.Request(variables, KEY, ids, images, known, labels, temperature)
    return sampling.run(model, request, method=method)


def test_methods_agree(x64, double):
    """Equal images at every temperature, sampling and completing, a block known or none."""
    model, variables = double
    labels = some_labels(model, BATCH)
    rng = np.random.default_rng(0)
    shape = (BATCH, *model.image_shape)
    images = rng.integers(0, model.likelihood.levels, shape, np.int32)  # as `sample`: one program
    nothing = np.zeros(images.shape, bool)
    part = rng.random(images.shape) < 0.4  # channels of a pixel apart
    of_first_block = by_site(model, part)
    of_first_block[:, model.blocks()[0][model.blocks()[0] >= 0]] = True
    part = of_first_block.reshape(part.shape)
    sites = generation_order(model).size
    for temperature, known in itertools.product((0.0, 0.7, 1.0), (nothing, part)):
        results = {
            method: run(model, variables, images, known, labels, method, temperature)
            for method in methods_of(model)
        }
        first = np.asarray(results["scan"].images)
        for result in results.values():
            np.testing.assert_array_equal(first, result.images)
        np.testing.assert_array_equal(first[known], images[known])
        assert first.max() < model.likelihood.levels
        passes = {method: int(result.passes) for method, result in results.items()}
        assert (passes["scan"], passes["naive"]) == (1, sites)
        assert passes["fixed_point"] <= sites + 1
        blocks = len(model.blocks())
        assert blocks <= passes.get("block_fixed_point", blocks) <= model.blocks().size + blocks
    np.testing.assert_array_equal(
        sample(model, variables),
        run(model, variables, images, nothing, labels, "scan").images,
    )


def test_completion_of_a_sample_gives_it_back(double):
    """With its own key and any part of it known, channels of a pixel apart: the same image."""
    with jax.enable_x64(True):
        model, variables = double
        images = sample(model, variables)

        @settings(max_examples=12, deadline=None, derandomize=True, database=None)
        @given(hnp.arrays(bool, images.shape, elements=st.booleans(), fill=st.booleans()))
        def holds(known):
            np.testing.assert_array_equal(complete(model, variables, images, known), images)
            # Nor does it matter what stands where nothing is known.
            other = np.where(known, images, model.likelihood.levels - 1 - images)
            np.testing.assert_array_equal(complete(model, variables, other, known), images)

        holds()


def test_completion_keeps_and_reads_what_is_known(x64, double):
    """Known values stand, later sites depend on them, earlier ones do not."""
    model, variables = double
    order = generation_order(model)
    shape = (BATCH, *model.image_shape)
    known = np.zeros(by_site(model, np.zeros(shape)).shape, bool)
    third = order.size // 3
    known[:, order[third : 2 * third]] = True
    known = known.reshape(shape)
    for first in range(0, 100 * BATCH, BATCH):  # a single bit may move few draws: until one does
        completed = [
            complete(model, variables, np.full(shape, level), known, first=first)
            for level in range(model.likelihood.levels)
        ]
        for level, images in enumerate(completed):
            assert (images[known] == level).all()
        sites = np.stack([by_site(model, images) for images in completed])[:, :, order]
        assert (sites[:, :, :third] == sites[0, :, :third]).all()
        if (sites[:, :, 2 * third :] != sites[0, :, 2 * third :]).any():
            return
    pytest.fail("no later site depends on what is known")


@every_model
def test_fixed_point_stops_as_soon_as_nothing_changes(x64, name):
    """A model that reads nothing is drawn in one pass and checked in a second."""
    model = in_double(name, "categorical")
    variables = jax.tree.map(jnp.zeros_like, perturbed(model))
    given, known = np.ones((BATCH, *model.image_shape), np.int32), np.zeros((), bool)
    known = np.broadcast_to(known, given.shape)
    labels = some_labels(model, BATCH)
    result = run(model, variables, given, known, labels, "fixed_point")
    assert int(result.passes) == 2
    all_known = np.ones_like(known)
    result = run(model, variables, given, all_known, labels, "fixed_point")
    assert int(result.passes) == 1
    np.testing.assert_array_equal(result.images, given)
    if "block_fixed_point" in methods_of(model):
        blocks, method = len(model.blocks()), "block_fixed_point"
        result = run(model, variables, given, known, labels, method)
        assert blocks < int(result.passes) <= 2 * blocks  # one at most is guessed right
        result = run(model, variables, given, all_known, labels, method)
        assert int(result.passes) == blocks
        np.testing.assert_array_equal(result.images, given)


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


@every_model
def test_noise_belongs_to_an_image(x64, name):
    """Eight at once, two batches of four, and chunks that do not divide: the same images."""
    model = in_double(name, "categorical")
    variables, labels = perturbed(model), np.asarray(some_labels(model, 8))
    together = sample(model, variables, 8, labels=labels)
    assert len(np.unique(together.reshape(8, -1), axis=0)) > 1
    halves = [
        sample(model, variables, 4, labels=labels[first : first + 4], first=first)
        for first in (0, 4)
    ]
    np.testing.assert_array_equal(np.concatenate(halves), together)
    chunks = list(sampling.sample_in_chunks(model, variables, KEY, 7, 4, labels=labels[:7]))
    assert [len(chunk) for chunk in chunks] == [4, 3]
    np.testing.assert_array_equal(np.concatenate(chunks), together[:7])


def test_completion_in_chunks_is_completion(x64):
    """Chunks that do not divide, each image with its own label and what is known of it."""
    model = in_double("GatedPixelCNN", "categorical")
    variables, images = perturbed(model), np.asarray(some_images(model, 7), np.uint8)
    known, labels = np.random.default_rng(0).random(images.shape) < 0.4, np.arange(7) % 2
    whole = complete(model, variables, images, known, labels=labels)
    chunks = list(
        sampling.complete_in_chunks(model, variables, KEY, images, known, 4, labels=labels)
    )
    assert [len(chunk) for chunk in chunks] == [4, 3]
    assert {chunk.dtype.name for chunk in chunks} == {"uint8"}
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def _codes(variables, model, key, ids):
    return sampling.prior_codes(model, variables, key, ids)


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_noise_belongs_to_an_image_whatever_the_generator(kind):
    """Also as JAX's default: one image alone, in a batch, and over four devices."""
    model, latent = make("GatedPixelCNN", "bernoulli"), vae((2, 2, 1), 3)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    keys = [jax.random.key(3, impl=kind)]
    with jax.default_prng_impl(kind):
        keys += [jax.random.key(3), jax.random.PRNGKey(3)]
        of_codes = functools.partial(_codes, perturbed(latent))
        for draw, of in ((sampling.site_noise, model), (of_codes, latent)):
            draw = jax.jit(draw, static_argnums=0)
            whole = [np.asarray(draw(of, key, jnp.arange(8))) for key in keys]
            assert len(np.unique(whole[0].reshape(8, -1), axis=0)) == 8
            for key, found in zip(keys, whole, strict=True):
                np.testing.assert_array_equal(found, whole[0])
                np.testing.assert_array_equal(draw(of, key, jnp.arange(5, 6)), found[5:6])
                spread = draw(of, key, jax.device_put(jnp.arange(8), split))
                np.testing.assert_array_equal(spread, found)
            other = draw(of, jax.random.split(keys[0])[0], jnp.arange(8))
            assert (other != whole[0]).all()
        images = sampling.sample(model, perturbed(model), keys[0], 4)
        np.testing.assert_array_equal(
            sampling.sample(model, perturbed(model), keys[2], 4, mesh=mesh), images
        )


def test_the_noise_of_a_threefry_key_is_of_the_key_itself():
    model = make("GatedPixelCNN", "bernoulli")
    eps = float(np.finfo(np.float32).eps)
    expected = [
        jax.random.uniform(jax.random.fold_in(jax.random.key(3), n), (12, 1), "float32", eps)
        for n in range(2)
    ]
    for key in (jax.random.key(3), jax.random.PRNGKey(3)):
        found = sampling.site_noise(model, key, jnp.arange(2))
        np.testing.assert_allclose(found, expected, atol=1e-6)


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


# Temperature.


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
