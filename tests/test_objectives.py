"""Nats an image, nats a site, bits/dim, and p(y | x): against what they are defined to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import likelihoods, models, objectives
from tests.cases import (
    MODELS,
    every_image,
    every_model,
    few_cases,
    make,
    one_line_error,
    perturbed,
    some_images,
    some_labels,
)

log_likelihood = jax.jit(objectives.log_likelihood, static_argnums=0)
log_likelihood_map = jax.jit(objectives.log_likelihood_map, static_argnums=0)
log_posterior = jax.jit(objectives.log_posterior, static_argnums=0)


@few_cases
def test_an_image_is_the_sum_of_its_sites(x64, name, case):
    """log p(x) = sum of the map, [B, H, W, S]; each term is a log-probability."""
    model = make(name, case, dtype="float64")
    variables, images, labels = perturbed(model), some_images(model, 5), some_labels(model, 5)
    nats = log_likelihood(model, variables, images, labels)
    sites = log_likelihood_map(model, variables, images, labels)
    channels = model.image_shape[-1]
    assert sites.shape == (5, *model.image_shape[:2], model.likelihood.sites(channels))
    assert nats.shape == (5,)
    assert nats.dtype == sites.dtype == np.float64
    assert float(jnp.max(sites)) <= 0
    np.testing.assert_allclose(nats, np.asarray(sites).reshape(5, -1).sum(-1), rtol=1e-12)


@every_model
def test_a_batch_changes_nothing_for_an_image(x64, name):
    """Images are scored one by one, in whatever company."""
    model = make(name, "categorical", dtype="float64")
    variables, images, labels = perturbed(model), some_images(model, 5), some_labels(model, 5)
    together = log_likelihood(model, variables, images, labels)
    alone = [
        float(log_likelihood(model, variables, images[i : i + 1], labels[i : i + 1])[0])
        for i in range(5)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@every_model
def test_no_images_have_no_likelihoods(name):
    """What is left of a set that was filtered may be nothing; in a jit too."""
    model = make(name, "categorical")
    variables, labels = perturbed(model), some_labels(model, 5)
    images = np.zeros((0, *model.image_shape), np.uint8)
    labels = None if labels is None else labels[:0]
    for score in (log_likelihood, objectives.log_likelihood):
        assert score(model, variables, images, labels).shape == (0,)


def test_no_images_have_no_bounds():
    for network in ("dense", "conv"):
        hidden = (4, 6) if network == "dense" else (2, 2, 6)
        model = models.VAE((8, 8, 1), likelihoods.Bernoulli(), network=network, hidden=hidden)
        variables = model.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.uint8))
        images = np.zeros((0, 8, 8, 1), np.uint8)
        for bound in (objectives.elbo, objectives.iwae_bound):
            assert bound(model, variables, jax.random.key(0), images).shape == (0,)


def test_bits_per_dim():
    """−nats / (H · W · C · ln 2), whatever leads."""
    nats = jnp.asarray([[-96.0 * np.log(2), 0.0, -1.0]])
    bits = objectives.bits_per_dim(nats, (4, 8, 3))
    np.testing.assert_allclose(bits, [[1.0, 0.0, 1 / (96 * np.log(2))]], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "levels"),
    # A mixture has no uniform parameters.
    [*((name, 17) for name in MODELS if not MODELS[name].whole_pixels), ("GatedPixelCNN", 2)],
)
def test_the_uniform_model_costs_log2_of_the_levels(x64, name, levels):
    """All parameters zero: every level has the same probability."""
    likelihood = likelihoods.Categorical(levels)
    model = make(name, "categorical-rgb", likelihood=likelihood, dtype="float64")
    variables = jax.tree.map(jnp.zeros_like, perturbed(model))
    nats = log_likelihood(model, variables, some_images(model, 2), None)
    bits = objectives.bits_per_dim(nats, model.image_shape)
    np.testing.assert_allclose(bits, np.log2(levels), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].multiple == 1])
def test_posterior_is_bayes_rule(x64, name):
    """p(y | x) = p(x | y) / sum_y' p(x | y') with equal priors, which is also what it averages to:

    its terms add up to 1, and over all images sum_x p(x) p(y | x) = p(y).
    """
    model = make(name, "categorical", (2, 2), dtype="float64", num_classes=2)
    variables, images = perturbed(model), jnp.asarray(every_image(model))
    posterior = np.exp(log_posterior(model, variables, images))
    assert posterior.shape == (len(images), 2)
    np.testing.assert_allclose(posterior.sum(-1), 1, rtol=1e-12)
    likelihood = np.stack(
        [
            np.exp(log_likelihood(model, variables, images, jnp.full(len(images), y, jnp.int32)))
            for y in range(2)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(posterior, likelihood / likelihood.sum(-1, keepdims=True), rtol=1e-9)
    assert np.abs(posterior - 1 / 2).max() > 0.01  # labels make a difference
    np.testing.assert_allclose(likelihood.mean(-1) @ posterior, 0.5, rtol=1e-10)


def test_posterior_needs_classes():
    model = make("GatedPixelCNN", "bernoulli")
    with one_line_error(r"num_classes is None; accepted: a model with classes"):
        objectives.log_posterior(model, perturbed(model), some_images(model, 2))


@every_model
def test_dropout_is_active_iff_its_rng_is_passed(name):
    """Without the rng, as if there were no dropout; with it, one key one value."""
    model = make(name, "categorical", dropout=0.5, features=8)
    variables, images, labels = perturbed(model), some_images(model, 4), some_labels(model, 4)

    @jax.jit
    def score(images, labels, key):
        return objectives.log_likelihood(model, variables, images, labels, rngs={"dropout": key})

    plain = log_likelihood(model, variables, images, labels)
    without = log_likelihood(model.clone(dropout=0.0), variables, images, labels)
    np.testing.assert_array_equal(plain, without)
    one, again, other = (np.asarray(score(images, labels, jax.random.key(k))) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()
    assert (one != plain).all()
    assert np.isfinite(one).all()


@every_model
def test_constants_inside_jit(name):
    """Images and labels that a compiled function closes over are scored like any others."""
    model = make(name, "categorical")
    variables, images, labels = perturbed(model), some_images(model, 2), some_labels(model, 2)
    closed = jax.jit(lambda v: objectives.log_likelihood(model, v, images, labels))
    np.testing.assert_allclose(
        closed(variables), log_likelihood(model, variables, images, labels), rtol=1e-5
    )


@every_model
def test_gradient_is_the_slope(x64, name):
    """d log p / d θ agrees with finite differences along a random direction, and every

    parameter has an influence.
    """
    model = make(name, "categorical", dtype="float64")
    variables, images, labels = perturbed(model), some_images(model, 4), some_labels(model, 4)

    @jax.jit
    def loss(variables, images, labels):
        return jnp.sum(objectives.log_likelihood(model, variables, images, labels))

    gradient = jax.jit(jax.grad(loss))(variables, images, labels)
    direction = perturbed(model, seed=1)
    slope = sum(
        float(np.vdot(g, d))
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    h = 1e-5
    there, along = jax.device_get((variables, direction))
    ahead, behind = (
        float(loss(jax.tree.map(lambda v, d, s=s: v + s * d, there, along), images, labels))
        for s in (h, -h)
    )
    np.testing.assert_allclose((ahead - behind) / (2 * h), slope, rtol=1e-3)
    dead = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.any(g)
    ]
    assert not dead, "no influence on the likelihood"


def test_active_units_are_those_whose_mean_varies():
    means = np.random.default_rng(0).normal(0, [1.0, 0.05, 0.2], (2000, 3))
    assert objectives.active_units(means.astype(np.float32)).tolist() == [True, False, True]
