"""Gradients of the bounds: estimators against enumeration, and against each other."""

import functools
import itertools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import objectives, training
from tests.cases import perturbed, some_images
from tests.vaes import BERNOULLI, gradients, mean_and_error, over_keys, vae


def enumerated_elbo(model, variables, images):
    """The exact expectation over all codes of bits, per image."""
    codes = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=model.num_latents)))
    codes = jnp.broadcast_to(codes[:, None], (len(codes), len(images), model.num_latents))
    codes = codes.astype(model.dtype)
    posterior = model.apply(variables, images, method="encode")
    fit = objectives.reconstruction(model, variables, codes, images)
    weights = jnp.exp(jnp.sum(posterior.log_prob(codes), axis=-1))
    return jnp.sum(weights * fit, axis=0) - jnp.sum(model.prior.kl(posterior), axis=-1)


def flat(tree):
    return jax.flatten_util.ravel_pytree(tree)[0]


def bits():
    """A model whose two bits can be enumerated, variables and images; to be called under x64."""
    model = vae((1, 2, 1), 2, (3,), latents="bernoulli", dtype="float64")
    return model, perturbed(model), some_images(model, 2)


@functools.cache
def exact_gradients():
    """Flat, of the mean of the enumerated ELBO of `bits`, and of its divergence alone."""
    model, variables, images = bits()

    def gradient(bound):
        return flat(jax.grad(bound)(variables))

    def divergence(v):
        posterior = model.apply(v, images, method="encode")
        return jnp.mean(jnp.sum(model.prior.kl(posterior), axis=-1))

    both = jax.jit(
        lambda: (
            gradient(lambda v: jnp.mean(enumerated_elbo(model, v, images))),
            gradient(divergence),
        )
    )
    return tuple(map(np.asarray, both()))


@pytest.mark.parametrize("kl", ["analytic", "monte_carlo"])
@pytest.mark.parametrize("baseline", ["none", "constant", "leave_one_out"])
def test_the_score_function_is_unbiased(baseline, kl, x64):
    model, variables, images = bits()
    exact, _ = exact_gradients()
    mean, error = mean_and_error(
        gradients(
            model,
            variables,
            images,
            20_000,
            num_samples=3,
            kl=kl,
            estimator="score_function",
            baseline=baseline,
            constant=jnp.asarray(-1.3, jnp.float32),
        )
    )
    assert np.abs(exact).max() > 0.05
    np.testing.assert_array_less(abs(mean - exact), 5 * error + 1e-12)


@pytest.mark.parametrize("kl", ["analytic", "monte_carlo"])
def test_beta_and_free_bits_weigh_the_gradient_of_every_estimator(kl, x64):
    model, variables, images = bits()
    plain, divergence = exact_gradients()
    found = {}
    for beta, free in ((4.0, 0.0), (1.0, 100.0)):
        target = training.ELBO(
            3, kl, beta, free, estimator="score_function", baseline="leave_one_out"
        )

        def one(key, target=target):
            def value(v):
                return jnp.mean(target(model, v, {"images": images}, key)[0])

            return flat(jax.grad(value)(variables))

        expected = plain + (1 - (0.0 if free else beta)) * divergence
        mean, error = mean_and_error(over_keys(one, 20_000))
        np.testing.assert_array_less(abs(mean - expected), 5 * error + 1e-12)
        found[beta] = expected
    assert np.linalg.norm(found[4.0] - found[1.0]) > 0.1


def test_straight_through_is_another_gradient_and_baselines_calm(x64):
    model, variables, images = bits()
    exact, _ = exact_gradients()
    common = {"num_samples": 4}
    through = gradients(model, variables, images, 5000, estimator="straight_through", **common)
    mean, error = mean_and_error(through)
    assert (abs(mean - exact) > 8 * error + 1e-12).any(), "it is biased"
    assert np.dot(mean, exact) > 0.8 * np.linalg.norm(mean) * np.linalg.norm(exact)
    plain, calm = (
        gradients(
            model, variables, images, 5000, estimator="score_function", baseline=baseline, **common
        )
        for baseline in ("none", "leave_one_out")
    )
    assert calm.var(axis=0).sum() < plain.var(axis=0).sum() / 2


def test_gradients_of_a_gaussian_code_agree_and_reparametrization_varies_less(x64):
    model = vae((2, 2, 1), 2, (3,), dtype="float64")
    variables, images = perturbed(model), some_images(model, 2)
    found = {
        estimator: gradients(model, variables, images, 20_000, estimator=estimator)
        for estimator in ("reparametrized", "score_function")
    }
    (mean, error), (other, other_error) = (mean_and_error(x) for x in found.values())
    assert np.abs(mean).max() > 0.05
    np.testing.assert_array_less(abs(mean - other), 5 * np.hypot(error, other_error) + 1e-12)
    variances = {name: values.var(axis=0).sum() for name, values in found.items()}
    assert variances["reparametrized"] < variances["score_function"] / 4


def test_the_estimator_leaves_the_value():
    model = vae((3, 2, 1), 3)
    variables, images, key = perturbed(model), some_images(model, 4), jax.random.key(0)

    @jax.jit
    def values():
        return [
            objectives.elbo_terms(
                model, variables, key, images, None, 4, estimator=estimator, baseline=baseline
            ).elbo
            for estimator, baseline in (
                ("reparametrized", "none"),
                ("score_function", "none"),
                ("score_function", "leave_one_out"),
            )
        ]

    first, *others = values()
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-5)


class Gaussian(NamedTuple):
    """q(z | x) of `[1, B, Z]`."""

    loc: jax.Array
    scale: jax.Array

    @classmethod
    def of(cls, model, variables, images):
        posterior = model.apply(variables, images, method="encode")
        return cls(posterior.loc[None], jnp.exp(posterior.log_scale)[None])

    def codes(self, noise):
        return self.loc + self.scale * noise


def log_weights(model, variables, posterior, codes, images):
    """log p(x, z) / q(z | x) of codes `[samples, B, Z]`, from its definition."""
    params = jax.vmap(lambda z: model.apply(variables, z, method="decode"))(codes)
    fit = jax.vmap(lambda p: BERNOULLI.log_prob(p, images))(params).sum(axis=(2, 3, 4))
    normal = jax.scipy.stats.norm.logpdf
    standard = (codes - posterior.loc) / posterior.scale
    ratio = normal(codes) - normal(standard) + jnp.log(posterior.scale)
    return fit + ratio.sum(axis=-1)


def with_noise(num_samples, key):
    """A model, variables, images, and the noise of as many codes as `iwae_bound` draws of `key`."""
    model = vae((2, 2, 1), 2, dtype="float64")
    variables, images = perturbed(model), some_images(model, 3)
    posterior = Gaussian.of(model, variables, images)
    codes = model.apply(variables, images, method="encode").sample(key, num_samples)
    return model, variables, images, (codes - posterior.loc) / posterior.scale


def test_iwae_gradient_is_that_of_its_definition(x64):
    key = jax.random.key(0)
    model, variables, images, noise = with_noise(5, key)

    def defined(variables):
        posterior = Gaussian.of(model, variables, images)
        logs = log_weights(model, variables, posterior, posterior.codes(noise), images)
        return jnp.mean(jnp.log(jnp.mean(jnp.exp(logs), axis=0)))

    def ours(variables):
        return jnp.mean(objectives.iwae_bound(model, variables, key, images, num_samples=5))

    ours, expected = (jax.jit(jax.grad(bound))(variables) for bound in (ours, defined))
    chex.assert_trees_all_close(ours, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("num_samples", [1, 5])
def test_the_doubly_reparametrized_gradient_is_its_equation(num_samples, x64):
    """Of the encoder Σ w² ∂log w/∂z ∂z/∂φ, w normalised; of the decoder Σ w ∂log w/∂θ."""
    key = jax.random.key(0)
    model, variables, images, noise = with_noise(num_samples, key)

    @jax.jit
    def defined(variables):
        posterior = Gaussian.of(model, variables, images)
        logs, pull = jax.vjp(
            lambda z, v: log_weights(model, v, posterior, z, images),
            posterior.codes(noise),
            variables,
        )
        normalised = jnp.exp(logs) / jnp.exp(logs).sum(axis=0, keepdims=True)
        slopes, _ = pull(jnp.ones_like(logs))  # a code has a part in no weight but its own
        squares = normalised[..., None] ** 2 * slopes

        def through_codes(v):
            return jnp.sum(squares * Gaussian.of(model, v, images).codes(noise))

        _, decoder = pull(normalised)
        return jax.tree.map(lambda a, b: (a + b) / 3, jax.grad(through_codes)(variables), decoder)

    def bound(v, estimator="doubly_reparametrized"):
        return jnp.mean(
            objectives.iwae_bound(model, v, key, images, None, num_samples, estimator=estimator)
        )

    value, gradient = jax.jit(jax.value_and_grad(bound))(variables)
    chex.assert_trees_all_close(gradient, defined(variables), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(value, bound(variables, "reparametrized"), rtol=1e-14)


@pytest.mark.parametrize("num_classes", [None, 2])
def test_the_doubly_reparametrized_gradient_is_unbiased_and_varies_less(num_classes, x64):
    model = vae((2, 2, 1), 2, (3,), dtype="float64", num_classes=num_classes)
    variables, images = perturbed(model), some_images(model, 2)
    batch = {"images": images} | ({} if num_classes is None else {"labels": jnp.arange(2)})
    keys = jax.random.split(jax.random.key(0), 20_000)
    found, decoders = {}, []
    for estimator in ("reparametrized", "doubly_reparametrized"):
        target = training.IWAE(8, estimator=estimator)

        def one(key, target=target):
            def value(v):
                return jnp.mean(target(model, v, batch, key)[0])

            gradient = jax.grad(value)(variables)["params"]
            return [flat(gradient[name]) for name in ("decoder", "encoder")]

        decoder, found[estimator] = jax.jit(jax.vmap(one))(keys)
        decoders.append(decoder)
    np.testing.assert_allclose(*decoders, rtol=1e-9, atol=1e-12)
    plain, doubly = map(np.asarray, found.values())
    (mean, error), (other, other_error) = mean_and_error(plain), mean_and_error(doubly)
    assert np.abs(mean).max() > 0.02
    np.testing.assert_array_less(abs(mean - other), 5 * np.hypot(error, other_error) + 1e-12)
    assert doubly.var(axis=0).sum() < plain.var(axis=0).sum() / 2


@pytest.mark.parametrize("estimator", ["reparametrized", "doubly_reparametrized"])
def test_the_gradient_of_the_bound_goes_through_every_transformation(estimator, x64):
    """Images and labels too are traced where the gradient is taken."""
    model = vae((2, 2, 1), 2, (3,), dtype="float64", num_classes=2)
    variables, images, labels = perturbed(model), some_images(model, 4), jnp.asarray([0, 1, 1, 0])

    def bounds(v, images, labels):
        key = jax.random.key(0)
        return objectives.iwae_bound(model, v, key, images, labels, 5, estimator=estimator)

    def staged(transformation):
        return lambda v, *data: jnp.sum(transformation(bounds)(v, *data))

    def in_a_scan(v, images, labels):
        def add(total, data):
            return total + jnp.sum(bounds(v, *data)), None

        halves = images.reshape(2, 2, *images.shape[1:]), labels.reshape(2, 2)
        return jax.lax.scan(add, 0.0, halves)[0]

    def by_halves(v, images, labels):
        return sum(jnp.sum(bounds(v, images[i : i + 2], labels[i : i + 2])) for i in (0, 2))

    def slope(f):
        return jax.grad(f)(variables, images, labels)

    expected = jax.jit(lambda: slope(staged(lambda f: f)))()
    for transformation in (jax.jit, jax.checkpoint):
        chex.assert_trees_all_close(slope(staged(transformation)), expected, rtol=1e-10)
    chex.assert_trees_all_close(slope(in_a_scan), jax.jit(lambda: slope(by_halves))(), rtol=1e-10)
    _, push = jax.jvp(
        jax.jit(lambda v: staged(jax.jit)(v, images, labels)), (variables,), (expected,)
    )
    np.testing.assert_allclose(push, np.sum(np.asarray(flat(expected)) ** 2), rtol=1e-10)
