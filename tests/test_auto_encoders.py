"""Auto-encoders as models: sizes, likelihoods, initialisation, samples, inverted decoders."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_jax import inversion, likelihoods, models, objectives, sampling, training
from gen_jax.models import StandardNormal
from tests.cases import (
    one_line_error,
    perturbed,
    some_images,
    some_labels,
    whole_image_params,
)
from tests.vaes import BERNOULLI, PIXELS, LinearGaussian, UnitGaussian, every_binary, vae

LIKELIHOODS = {
    "bernoulli": (BERNOULLI, 1),
    "categorical-rgb": (likelihoods.Categorical(3), 3),
    "mixture-rgb": (likelihoods.DiscretizedLogisticMixture(5, 2), 3),
}

elbo = jax.jit(objectives.elbo, static_argnums=0)


# Models.


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("case", LIKELIHOODS)
def test_models_of_any_size_train_and_sample(network, case):
    likelihood, channels = LIKELIHOODS[case]
    hidden = (4, 6, 8) if network == "conv" else (8,)
    model = models.VAE(
        (5, 7, channels), likelihood, 3, network=network, hidden=hidden, num_latents=2
    )
    variables, images, labels = perturbed(model), some_images(model, 4), some_labels(model, 4)
    params = whole_image_params(model, variables, images, labels)
    sites = likelihood.sites(channels)
    assert params.shape == (4, 35 * sites, likelihood.num_params(channels))

    @jax.jit
    @jax.value_and_grad
    def loss(variables, labels):
        return -jnp.mean(objectives.elbo(model, variables, jax.random.key(0), images, labels))

    nats, gradients = loss(variables, labels)
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.abs(gradient).max() > 0, f"{jax.tree_util.keystr(path)} is used"
    other, _ = loss(variables, (labels + 1) % 3)
    assert not np.allclose(other, nats), "the class matters"
    drawn = sampling.sample(model, variables, jax.random.key(1), 4, labels=labels)
    assert drawn.shape == images.shape
    assert int(drawn.max()) < likelihood.levels
    assert models.from_dict(models.to_dict(model)) == model


def test_bfloat16_computes_in_bfloat16_and_scores_in_float32():
    model = vae((4, 4, 1), 2, dtype="bfloat16")
    variables, images = perturbed(model), some_images(model, 2)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert whole_image_params(model, variables, images, None).dtype == jnp.float32
    exact = vae((4, 4, 1), 2)
    key = jax.random.key(0)
    ours = elbo(model, variables, key, images)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, elbo(exact, variables, key, images), rtol=0.05)


def test_the_code_is_a_bottleneck():
    model = models.AutoEncoder((3, 3, 1), BERNOULLI, num_latents=2, hidden=(4,))
    variables, images = perturbed(model), some_images(model, 5)
    codes = model.apply(variables, images, method="encode")
    assert codes.shape == (5, 2)
    np.testing.assert_allclose(
        model.apply(variables, images), model.apply(variables, codes, method="decode"), rtol=1e-6
    )
    np.testing.assert_allclose(
        objectives.reconstruction(model, variables, codes, images),
        BERNOULLI.log_prob(model.apply(variables, images), images).sum(axis=(1, 2, 3)),
        rtol=1e-5,
    )


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("case", LIKELIHOODS)
def test_the_output_begins_at_the_images_it_is_shown(network, case):
    likelihood, channels = LIKELIHOODS[case]
    hidden = (4, 8) if network == "conv" else (8,)
    model = models.VAE((3, 4, channels), likelihood, network=network, hidden=hidden, num_latents=2)
    images = some_images(model, 300) * jnp.asarray([1, 0])[:, None].repeat(2, 0).reshape(1, 1, 4, 1)
    init = jax.jit(model.init)
    variables = init(jax.random.key(0), images)
    bias = variables["params"]["decoder"]["bias"]
    assert bias.ndim == 1, "weight decay spares it"
    bias = bias.reshape(1, 1, -1) if network == "conv" else bias.reshape(3, 4, -1)
    sites, params = likelihood.sites(channels), likelihood.num_params(channels)
    mean = np.asarray(likelihood.mean(bias.reshape(*bias.shape[:2], sites, params), channels))
    expected = np.asarray(images).mean(axis=0)
    if network == "conv":
        expected = expected.mean(axis=(0, 1), keepdims=True)
    np.testing.assert_allclose(mean, expected, atol=0.02)
    # One image, or none: nothing is certain yet.
    single = init(jax.random.key(0), images[:1])["params"]["decoder"]["bias"]
    assert np.isfinite(single).all()
    assert np.abs(single).max() < 8


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"num_latents": 0}, "num_latents is 0"),
        ({"hidden": ()}, r"hidden is \(\)"),
        ({"hidden": (3, 0)}, r"hidden is \(3, 0\)"),
        ({"hidden": (3, 2.5)}, r"hidden is \(3, 2.5\); accepted: one or more whole numbers"),
        ({"hidden": 3}, "hidden is 3; accepted: one or more whole numbers of at least 1"),
        ({"network": "conv", "hidden": (3,)}, "2 or more"),
        ({"network": "transformer"}, "network is 'transformer'"),
        ({"activation": "sine"}, "activation is 'sine'"),
        ({"latents": "poisson"}, "latents is 'poisson'"),
    ],
)
def test_bad_fields(fields, match):
    with one_line_error(match):
        vae(**fields)


def test_bad_calls():
    model = vae((2, 2, 1), 2)
    variables, images, key = perturbed(model), some_images(model, 2), jax.random.key(0)
    for codes, match in ((jnp.zeros((2, 3)), "shape"), (jnp.zeros((2, 2), jnp.int32), "int32")):
        with one_line_error(match):
            model.apply(variables, codes, method="decode")
    for call, match in (
        (lambda: objectives.reconstruction(model, variables, jnp.zeros((3, 2)), images), "codes"),
        (lambda: objectives.reconstruction(model, variables, jnp.zeros((2, 2)), images + 7), "7"),
        (
            lambda: objectives.log_likelihood(model, variables, images),
            "model is VAE; accepted: an autoregressive model",
        ),
        (
            lambda: inversion.encode_by_inversion(PIXELS, {}, images),
            "model is PixelCNN; accepted: an auto-enc",
        ),
        (lambda: objectives.elbo(PIXELS, {}, key, images), "model is PixelCNN; accepted: a VAE"),
        (
            lambda: objectives.iwae_bound(PIXELS, {}, key, images),
            "model is PixelCNN; accepted: a VAE",
        ),
    ):
        with one_line_error(match):
            call()
    with one_line_error("num_samples is 0"):
        objectives.elbo(model, variables, key, images, num_samples=0)
    with one_line_error("kl is 'exact'"):
        objectives.elbo(model, variables, key, images, kl="exact")
    with one_line_error("num_samples is 0"):
        objectives.iwae_bound(model, variables, key, images, num_samples=0)
    with one_line_error("chunk_size is 0"):
        objectives.iwae_bound(model, variables, key, images, chunk_size=0)
    with one_line_error("images has shape"):
        objectives.elbo(model, variables, key, images[:, :1])
    with one_line_error("labels is .*; accepted, by a model without classes"):
        objectives.elbo(model, variables, key, images, jnp.zeros(2, jnp.int32))
    with one_line_error("model is VAE; accepted: an autoregressive model"):
        sampling.complete(model, variables, key, images, np.zeros((2, 2, 1), bool))
    with one_line_error("method is 'naive'"):
        sampling.sample(model, variables, key, 2, method="naive")
    plain = models.AutoEncoder((2, 2, 1), BERNOULLI, num_latents=2, hidden=(4,))
    with one_line_error("accepted: one with a distribution over codes"):
        sampling.sample(plain, perturbed(plain), key, 2)


def test_active_units_are_those_whose_mean_varies():
    means = np.random.default_rng(0).normal(0, [1.0, 0.05, 0.2], (2000, 3))
    assert objectives.active_units(means.astype(np.float32)).tolist() == [True, False, True]


# Sampling.


def test_samples_follow_the_model(x64):
    model = vae((1, 3, 1), 2, (3,), latents="bernoulli", dtype="float64")
    variables, images = perturbed(model), every_binary(1, 3)
    codes = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=2)))
    codes = jnp.broadcast_to(codes[:, None], (4, 8, 2)).astype(jnp.float64)
    fit = objectives.reconstruction(model, variables, codes, images)
    expected = np.exp(np.asarray(fit)).mean(axis=0)
    np.testing.assert_allclose(expected.sum(), 1, rtol=1e-12)
    count = 20_000
    drawn = np.asarray(sampling.sample(model, variables, jax.random.key(0), count))
    numbers = drawn.reshape(count, 3) @ np.array([4, 2, 1])
    seen = np.bincount(numbers, minlength=8)
    assert scipy.stats.chisquare(seen, expected * count).pvalue > 1e-4
    # Independent pixels would not do: the code couples them.
    ones = drawn.reshape(count, 3).mean(axis=0)
    apart = np.prod(np.where(images.reshape(8, 3) == 1, ones, 1 - ones), axis=1)
    assert scipy.stats.chisquare(seen, apart / apart.sum() * count).pvalue < 1e-6


def test_samples_do_not_depend_on_batch_or_devices():
    model = vae((3, 3, 1), 2, num_classes=2)
    variables, labels = perturbed(model), np.arange(8, dtype=np.int32) % 2
    key = jax.random.key(5)
    whole = np.asarray(sampling.sample(model, variables, key, 8, labels=labels))
    chunks = sampling.sample_in_chunks(model, variables, key, 8, 3, labels=labels)
    np.testing.assert_array_equal(np.concatenate(list(chunks)), whole)
    mesh = training.make_mesh()
    assert mesh.size == 4
    spread = sampling.sample(model, variables, key, 8, labels=labels, mesh=mesh)
    np.testing.assert_array_equal(spread, whole)
    codes = sampling.prior_codes(model, variables, key, np.arange(8))
    params = model.apply(variables, codes, labels, method="decode")
    mode = sampling.sample(model, variables, key, 8, labels=labels, temperature=0.0)
    np.testing.assert_array_equal(mode, (params[..., 0] > 0).astype(np.uint8))


# Inversion.


def test_inversion_finds_the_mode_of_the_posterior():
    model = LinearGaussian((2, 2, 1), UnitGaussian(), num_latents=2)
    images = some_images(model, 6)
    found = inversion.encode_by_inversion(model, {}, images, num_steps=400, num_starts=2)
    posterior = model.apply({}, images, method="encode")
    np.testing.assert_allclose(found.codes, posterior.loc, atol=2e-3)
    fit = objectives.reconstruction(model, {}, found.codes, images)
    np.testing.assert_allclose(found.reconstruction, fit, rtol=1e-4)
    np.testing.assert_allclose(
        found.log_joint - found.reconstruction,
        StandardNormal(2).log_prob(found.codes).sum(axis=-1),
        rtol=1e-3,
        atol=1e-3,
    )
    # Without the prior: least squares.
    matrix = np.asarray(model.bind({}).matrix)
    centred = np.asarray(images).reshape(6, 4) - np.asarray(model.bind({}).offset)
    squares = np.linalg.lstsq(matrix, centred.T, rcond=None)[0].T
    free = inversion.encode_by_inversion(model, {}, images, num_steps=400, prior_weight=0.0)
    np.testing.assert_allclose(free.codes, squares, atol=2e-3)


def test_inversion_keeps_the_best_of_all_starts():
    model = vae((4, 4, 1), 2, (8,), num_classes=2)
    variables = jax.tree.map(lambda x: 3 * x, perturbed(model))
    images, labels = some_images(model, 5), some_labels(model, 5)
    starts = jax.random.normal(jax.random.key(0), (6, 5, 2))

    def invert(starts, images=images, labels=labels):
        return inversion.encode_by_inversion(
            model, variables, images, labels, num_steps=30, starts=starts
        )

    alone = np.stack([invert(start[None]).log_joint for start in starts])
    together = invert(starts)
    assert len(np.unique(alone.argmax(axis=0))) > 1, "no start is the best for all"
    np.testing.assert_allclose(together.log_joint, alone.max(axis=0), rtol=1e-5)
    one = invert(starts[:, 2:3], images[2:3], labels[2:3])
    np.testing.assert_allclose(one.codes[0], together.codes[2], atol=1e-4)
    long = inversion.encode_by_inversion(
        model, variables, images, labels, num_steps=1, learning_rate=1e3, starts=starts
    )
    first = objectives.reconstruction(model, variables, starts, images, labels)
    first = first + StandardNormal(2).log_prob(starts).sum(axis=-1)
    assert (np.asarray(long.log_joint) >= np.asarray(first).max(axis=0) - 1e-4).all()


def test_inversion_of_what_cannot_be_inverted():
    model = vae((2, 2, 1), 2, latents="bernoulli")
    images = some_images(model, 2)
    with one_line_error("accepted: one whose codes are real numbers"):
        inversion.encode_by_inversion(model, perturbed(model), images)
    model = vae((2, 2, 1), 2)
    variables = perturbed(model)
    for fields, match in (
        ({"num_starts": 0}, "num_starts is 0"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"prior_weight": -1.0}, "prior_weight is -1.0"),
        ({"starts": jnp.zeros((1, 3, 2))}, "starts has shape"),
        ({"starts": jnp.zeros((0, 2, 2))}, "starts has shape"),
        ({"starts": jnp.zeros((1, 2, 2), jnp.int32)}, "starts has shape .* int32"),
    ):
        with one_line_error(match):
            inversion.encode_by_inversion(model, variables, images, **fields)


def test_learned_codes_are_those_of_the_batch():
    model = models.ImplicitAutoEncoder(
        (3, 3, 1), BERNOULLI, num_latents=2, hidden=(4,), num_codes=9
    )
    variables, images = perturbed(model), some_images(model, 4)
    batch = {"images": images, "indices": jnp.asarray([7, 0, 3, 7], jnp.int32)}

    def value(variables):
        return training.LearnedCodes()(model, variables, batch, jax.random.key(0))

    nats, terms = value(variables)
    codes = variables["params"]["codes"][batch["indices"]]
    fit = objectives.reconstruction(model, variables, codes, images)
    np.testing.assert_allclose(terms["reconstruction"], fit, rtol=1e-5)
    prior = scipy.stats.norm.logpdf(np.asarray(codes)).sum(axis=-1)
    np.testing.assert_allclose(nats, fit + prior, rtol=1e-5)
    gradient = jax.grad(lambda v: jnp.sum(value(v)[0]))(variables)["params"]["codes"]
    touched = np.flatnonzero(np.abs(gradient).sum(axis=-1))
    assert touched.tolist() == [0, 3, 7]
    batch["indices"] = jnp.asarray([0, 1, 2, 9], jnp.int32)
    assert np.isnan(value(variables)[0]).tolist() == [False, False, False, True]
    del batch["indices"]
    with one_line_error("no indices"):
        value(variables)


@pytest.mark.parametrize("latents", ["gaussian", "bernoulli"])
def test_inside_a_jit_what_does_not_exist_gives_nan(latents):
    """A level or a label out of range: bounds, codes, and codes by inversion."""
    model = vae((2, 2, 1), 2, num_classes=2, latents=latents, likelihood=likelihoods.Categorical(3))
    variables, key = perturbed(model), jax.random.key(0)
    images, labels = np.ones((5, 2, 2, 1), np.uint8), np.zeros(5, np.int32)
    images[1, 0, 0] = 3
    labels[2:4] = -1, 2
    wrong = np.array([False, True, True, True, False])

    @jax.jit
    def score(images, labels):
        posterior = model.apply(variables, images, labels, method="encode")
        results = {
            "elbo": objectives.elbo(model, variables, key, images, labels),
            "iwae": objectives.iwae_bound(model, variables, key, images, labels, 4, chunk_size=3),
            "mean": posterior.mean().sum(axis=-1),
            "params": model.apply(variables, images, labels).sum(axis=(1, 2, 3, 4)),
        }
        if latents == "gaussian":
            found = inversion.encode_by_inversion(model, variables, images, labels, num_steps=2)
            results |= {"log_joint": found.log_joint, "fit": found.reconstruction}
        return results

    for name, values in score(images, labels).items():
        np.testing.assert_array_equal(np.isnan(values), wrong, name)
    with jax.debug_nans(True):
        score(np.minimum(images, 2), np.abs(labels) % 2)
    plain = models.AutoEncoder((2, 2, 1), BERNOULLI, num_latents=2, hidden=(4,))
    weights = perturbed(plain)
    codes = jax.jit(lambda x: plain.apply(weights, x, method="encode"))(images)
    np.testing.assert_array_equal(np.isnan(codes).all(axis=-1), images.max((1, 2, 3)) > 1)
    bias = jax.jit(lambda x: plain.init(key, x))(images)["params"]["decoder"]["bias"]
    assert np.isnan(bias).all(), "an output that begins at such images"


def test_inversion_in_chunks_finds_the_same_codes(x64):
    model = vae((2, 2, 1), 2, num_classes=2, dtype="float64")
    variables, images, labels = perturbed(model), some_images(model, 5), some_labels(model, 5)
    options = {"key": jax.random.key(3), "num_starts": 2, "num_steps": 5}
    whole = inversion.encode_by_inversion(model, variables, images, labels, **options)
    for size in (2, 9):
        parts = inversion.encode_by_inversion(
            model, variables, images, labels, chunk_size=size, **options
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), parts, whole)
