"""Bounds of log p(x) against quadrature and closed forms; their memory, and where it lies."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_jax import objectives, training
from tests.cases import perturbed, some_images
from tests.compilation import optimized
from tests.vaes import (
    LinearGaussian,
    UnitGaussian,
    every_binary,
    mean_and_error,
    over_keys,
    vae,
)

reconstruction = jax.jit(objectives.reconstruction, static_argnums=0)
elbo = jax.jit(objectives.elbo, static_argnums=0, static_argnames=("num_samples", "kl"))
iwae_bound = jax.jit(objectives.iwae_bound, static_argnums=0, static_argnames="num_samples")


def log_p_by_quadrature(model, variables, images):
    """log ∫ p(z) p(x | z) dz of a one-dimensional code."""
    grid = np.linspace(-9, 9, 3001)
    codes = jnp.broadcast_to(jnp.asarray(grid)[:, None, None], (len(grid), len(images), 1))
    fit = np.asarray(reconstruction(model, variables, codes, images))
    joint = fit + scipy.stats.norm.logpdf(grid)[:, None]
    return np.log(np.trapezoid(np.exp(joint), grid, axis=0))


def test_the_bounds_tighten_towards_log_p(x64):
    model = vae(dtype="float64")
    variables, images = perturbed(model, 2), some_images(model, 3)
    exact = log_p_by_quadrature(model, variables, images)
    assert np.allclose(
        np.exp(log_p_by_quadrature(model, variables, every_binary(2, 2))).sum(), 1, atol=1e-9
    )
    means, errors = {}, {}
    for k in (1, 4, 64):
        values = over_keys(
            lambda key, k=k: objectives.iwae_bound(model, variables, key, images, num_samples=k),
            4000,
            seed=k,
        )
        means[k], errors[k] = mean_and_error(values)
    mean, error = mean_and_error(
        over_keys(lambda key: objectives.elbo(model, variables, key, images), 4000)
    )
    assert (exact - mean > 0.02).all(), "a gap to speak of"
    assert (mean + 4 * error < exact).all()
    np.testing.assert_array_less(abs(mean - means[1]), 4 * (error + errors[1]))
    for k, more in itertools.pairwise(means):
        assert (means[k] <= means[more] + 4 * (errors[k] + errors[more])).all()
        assert (means[k] <= exact + 4 * errors[k]).all()
    assert (exact - means[64] < (exact - means[1]) / 8).all()


def test_a_linear_gaussian_vae_has_its_closed_form(x64):
    exact_q = LinearGaussian((2, 2, 1), UnitGaussian(), num_latents=2, dtype="float64")
    bound = exact_q.bind({})
    covariance = np.asarray(bound.matrix @ bound.matrix.T) + 0.7**2 * np.eye(4)
    images = some_images(exact_q, 5)
    expected = scipy.stats.multivariate_normal(np.asarray(bound.offset), covariance).logpdf(
        np.asarray(images).reshape(5, 4)
    )
    key = jax.random.key(0)
    # Where q is the posterior, log p(x, z) - log q(z | x) is log p(x) for every z.
    sampled = elbo(exact_q, {}, key, images, num_samples=3, kl="monte_carlo")
    np.testing.assert_allclose(sampled, expected, rtol=1e-10)
    tight = iwae_bound(exact_q, {}, key, images, num_samples=4)
    np.testing.assert_allclose(tight, expected, rtol=1e-10)
    mean, error = mean_and_error(
        over_keys(lambda key: objectives.elbo(exact_q, {}, key, images), 4000)
    )
    np.testing.assert_array_less(abs(mean - expected), 4 * error)
    # The bound misses log p(x) by KL(q || posterior), here of two Gaussians a shift apart.
    shifted = exact_q.clone(shift=0.3)
    precision = 1 + np.sum(np.asarray(bound.matrix) ** 2, axis=0) / 0.7**2
    gap = 0.5 * 0.3**2 * precision.sum()
    mean, error = mean_and_error(
        over_keys(lambda key: objectives.elbo(shifted, {}, key, images), 4000)
    )
    np.testing.assert_array_less(abs(expected - gap - mean), 4 * error)
    iwae = over_keys(
        lambda key: objectives.iwae_bound(shifted, {}, key, images, num_samples=500), 50
    )
    np.testing.assert_allclose(iwae.mean(axis=0), expected, atol=0.05)


def value_and_grad_of_sum(bound):
    """variables -> bound, and the gradient of its sum."""

    def function(variables):
        values, back = jax.vjp(bound, variables)
        return values, back(jnp.ones_like(values))[0]

    return function


@pytest.mark.parametrize("latents", ["gaussian", "bernoulli"])
def test_iwae_in_chunks_is_one_logsumexp(latents, x64):
    model = vae((3, 2, 1), 3, latents=latents, dtype="float64")
    variables, images, key = perturbed(model), some_images(model, 4), jax.random.key(3)

    def at_once(variables):
        posterior = model.apply(variables, images, method="encode")
        if latents == "bernoulli":
            posterior = jax.lax.stop_gradient(posterior)
        keys = [jax.random.fold_in(key, i) for i in range(3)]
        codes = jnp.concatenate([posterior.sample(k, 4) for k in keys])[:10]
        weights = objectives.reconstruction(model, variables, codes, images) + jnp.sum(
            model.prior.log_prob(codes) - posterior.log_prob(codes), axis=-1
        )
        return jax.nn.logsumexp(weights, axis=0) - math.log(10)

    def in_chunks(variables):
        return objectives.iwae_bound(model, variables, key, images, num_samples=10, chunk_size=4)

    (ours, gradient), (expected, its_gradient) = (
        jax.jit(value_and_grad_of_sum(bound))(variables) for bound in (in_chunks, at_once)
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), gradient, its_gradient)
    single = iwae_bound(model, variables, key, images, num_samples=1)
    np.testing.assert_allclose(
        single, elbo(model, variables, key, images, kl="monte_carlo"), rtol=1e-12
    )


def lowered_bound(transformation, batch, num_samples, chunk_size, **settings):
    """The bound of a VAE of MNIST's size, or its gradient, traced and not yet compiled."""
    model = vae((28, 28, 1), 50, (200, 200))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1), jnp.int32))
    images = jax.ShapeDtypeStruct((batch, 28, 28, 1), jnp.int32)

    def bound(v, x):
        bounds = objectives.iwae_bound(
            model, v, jax.random.key(0), x, None, num_samples, chunk_size=chunk_size, **settings
        )
        return jnp.sum(bounds)

    return jax.jit(transformation(bound)).lower(shapes, images)


def test_chunks_bound_the_memory_of_many_samples():
    """Of the bound, and of its gradient."""

    def memory(num_samples, transformation):
        compiled = lowered_bound(transformation, 100, num_samples, 10).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    with optimized():
        for transformation in (lambda f: f, jax.grad):
            few, many = memory(50, transformation), memory(5000, transformation)
            assert many <= few + 495 * 1e4  # a running sum for each further chunk; activations: 4e6
            assert many < 100e6


@pytest.mark.parametrize(
    ("chunk_size", "estimator"),
    [(None, "reparametrized"), (64, "reparametrized"), (100, "doubly_reparametrized")],
)
def test_codes_in_memory_at_once_are_decoded_once(chunk_size, estimator):
    """Forward, and for the gradient by their inputs and by the weights: three passes, not four."""
    once, gradient = (
        lowered_bound(transformation, 2, 64, chunk_size, estimator=estimator).cost_analysis()[
            "flops"
        ]
        for transformation in (lambda f: f, jax.grad)
    )
    assert 2.5 < gradient / once < 3.3


@pytest.mark.skipif(jax.device_count() < 4, reason="fewer than four devices")
@pytest.mark.parametrize("estimator", ["reparametrized", "doubly_reparametrized"])
def test_codes_stay_on_the_device_of_their_image(estimator):
    model = vae((4, 4, 1), 2, (8,))
    variables, images = perturbed(model), some_images(model, 8)
    rows = jax.sharding.NamedSharding(training.make_mesh(), jax.sharding.PartitionSpec("data"))

    def loss(v, x):
        bound = objectives.iwae_bound(
            model, v, jax.random.key(0), x, num_samples=5, estimator=estimator
        )
        return jnp.mean(bound)

    with optimized():
        compiled = jax.jit(jax.grad(loss)).lower(variables, jax.device_put(images, rows)).compile()
    assert "all-reduce" in compiled.as_text()
    assert "all-gather" not in compiled.as_text()


def test_labels_belong_to_their_image():
    model = vae((2, 2, 1), 2, num_classes=3)
    variables, images, labels = perturbed(model), some_images(model, 3), jnp.asarray([2, 0, 1])
    codes = jax.random.normal(jax.random.key(0), (4, 3, 2))
    together = reconstruction(model, variables, codes, images, labels)
    for i in range(3):
        alone = reconstruction(
            model, variables, codes[:, i : i + 1], images[i : i + 1], labels[i : i + 1]
        )
        np.testing.assert_allclose(together[:, i], alone[:, 0], rtol=1e-5)
