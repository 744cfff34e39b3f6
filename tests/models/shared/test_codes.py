"""Distributions over codes: densities of SciPy, divergences that sampling gives, finite."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_jax.models import DiagonalGaussian, FairCoins, IndependentBernoulli, StandardNormal
from tests.vaes import mean_and_error

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("latents", ["gaussian", "bernoulli"])
def test_the_closed_form_of_the_divergence_is_what_sampling_gives(latents):
    rng = np.random.default_rng(0)
    numbers = jnp.asarray(rng.normal(0, 1, (2, 3, 5)), jnp.float32)
    if latents == "gaussian":
        posterior, prior = DiagonalGaussian(*numbers), StandardNormal(5)
    else:
        posterior, prior = IndependentBernoulli(numbers[0]), FairCoins(5)

    @jax.jit
    def draw(key):
        codes = posterior.sample(key, 40_000)
        return codes, posterior.log_prob(codes) - prior.log_prob(codes)

    codes, sampled = map(np.asarray, draw(jax.random.key(0)))
    assert codes.shape == (40_000, 3, 5)
    mean, error = mean_and_error(sampled)
    np.testing.assert_array_less(abs(mean - prior.kl(posterior)), 4.5 * error)
    np.testing.assert_allclose(codes.mean(axis=0), posterior.mean(), atol=0.05)


def test_densities_are_those_of_scipy():
    rng = np.random.default_rng(0)
    mean, log_scale, codes = jnp.asarray(rng.normal(size=(3, 4, 3)), jnp.float32)
    np.testing.assert_allclose(
        DiagonalGaussian(mean, log_scale).log_prob(codes),
        scipy.stats.norm(mean, np.exp(log_scale)).logpdf(codes),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        StandardNormal(3).log_prob(codes), scipy.stats.norm.logpdf(codes), rtol=1e-5
    )
    bits = (codes > 0).astype(jnp.float32)
    np.testing.assert_allclose(
        IndependentBernoulli(mean).log_prob(bits),
        scipy.stats.bernoulli(1 / (1 + np.exp(-np.asarray(mean, np.float64)))).logpmf(bits),
        rtol=1e-4,
    )


def test_saturated_bits_stay_finite():
    posterior = IndependentBernoulli(jnp.asarray([-200.0, 200.0]))
    np.testing.assert_allclose(FairCoins(2).kl(posterior), math.log(2), rtol=1e-6)
    assert np.isfinite(posterior.log_prob(jnp.asarray([[1.0, 0.0]]))).all()
