"""Gradients of the bounds: estimators against enumeration, and against each other."""

import functools
import itertools

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


def bits():
    """A model whose two bits can be enumerated, variables and images; to be called under x64."""
    model = vae((1, 2, 1), 2, (3,), latents="bernoulli", dtype="float64")
    return model, perturbed(model), some_images(model, 2)


@functools.cache
def exact_gradients():
    """Flat, of the mean of the enumerated ELBO of `bits`, and of its divergence alone."""
    model, variables, images = bits()

    def gradient(bound):
        return jax.flatten_util.ravel_pytree(jax.grad(bound)(variables))[0]

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

            return jax.flatten_util.ravel_pytree(jax.grad(value)(variables))[0]

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


def test_iwae_gradient_is_that_of_its_definition(x64):
    model = vae((2, 2, 1), 2, dtype="float64")
    variables, images, key = perturbed(model), some_images(model, 3), jax.random.key(0)

    def defined(variables):
        posterior = model.apply(variables, images, method="encode")
        loc, scale = posterior.loc[None], jnp.exp(posterior.log_scale)[None]
        noise = jax.lax.stop_gradient((posterior.sample(key, 5) - loc) / scale)
        codes = loc + scale * noise
        params = jax.vmap(lambda z: model.apply(variables, z, method="decode"))(codes)
        fit = jax.vmap(lambda p: BERNOULLI.log_prob(p, images))(params).sum(axis=(2, 3, 4))
        normal = jax.scipy.stats.norm.logpdf
        ratio = normal(codes) - normal(noise) + jnp.log(scale)
        return jnp.mean(jnp.log(jnp.mean(jnp.exp(fit + ratio.sum(axis=-1)), axis=0)))

    def ours(variables):
        return jnp.mean(objectives.iwae_bound(model, variables, key, images, num_samples=5))

    ours, expected = (jax.jit(jax.grad(bound))(variables) for bound in (ours, defined))
    chex.assert_trees_all_close(ours, expected, rtol=1e-8, atol=1e-12)
