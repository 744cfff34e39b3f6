"""What a likelihood says of every level, of its own or through log_prob."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.likelihoods import level_log_probs
from tests.cases import one_line_error
from tests.likelihood_cases import (
    Geometric,
    every,
    extreme_params,
    log_prob,
    random_params,
    random_pixels,
)


@functools.partial(jax.jit, static_argnums=(0, 3))
def levels_of(likelihood, params, pixels, value):
    return level_log_probs(likelihood, params, pixels, value)


def by_the_chain_rule(likelihood, params, pixels, masses=None):
    """log p of pixels `[batch, C]`, site by site and value by value; sums of p go to `masses`."""
    batch, channels = pixels.shape
    sites = likelihood.sites(channels)
    total = np.zeros((batch, sites))
    for s, given_levels in enumerate(np.split(pixels, sites, axis=1)):
        for value in range(channels // sites):
            # What is not drawn yet must not matter.
            seen = np.where(np.arange(channels // sites) < value, given_levels, 1)
            nats = levels_of(likelihood, params[:, s], jnp.asarray(seen), value)
            nats = np.asarray(nats, np.float64)
            assert nats.shape == (batch, likelihood.levels)
            if masses is not None:
                masses.append(np.exp(nats).sum(-1))
            total[:, s] += nats[np.arange(batch), given_levels[:, value]]
    return total


@pytest.mark.quick
@pytest.mark.parametrize("scale", [0.5, 5.0])
@every
def test_levels_add_up_to_one_and_to_log_prob(x64, likelihood, channels, scale):
    params = jnp.asarray(random_params(likelihood, channels, 20, scale))
    pixels, masses = random_pixels(likelihood, channels, 20), []
    found = by_the_chain_rule(likelihood, params, pixels, masses)
    np.testing.assert_allclose(masses, 1, rtol=1e-12)
    np.testing.assert_allclose(found, log_prob(likelihood, params, jnp.asarray(pixels)), rtol=1e-9)


@pytest.mark.quick
@every
def test_levels_are_finite_at_the_edges(likelihood, channels):
    """In float32, and all of the mass is there; exact where it is no less than 1e-6."""
    params = extreme_params(likelihood, channels)
    pixels = random_pixels(likelihood, channels, len(params))
    params, masses = jnp.asarray(params, jnp.float32), []
    found = by_the_chain_rule(likelihood, params, pixels, masses)
    np.testing.assert_allclose(masses, 1, rtol=1e-4)
    expected = np.asarray(log_prob(likelihood, params, jnp.asarray(pixels)))
    assert np.isfinite(found[np.isfinite(expected) & (expected > -1e4)]).all()
    likely = expected > np.log(1e-6)
    np.testing.assert_allclose(found[likely], expected[likely], rtol=1e-3, atol=1e-3)


@pytest.mark.quick
def test_levels_of_anothers_likelihood_are_asked_of_log_prob(x64):
    likelihood, masses = Geometric(), []
    params = jnp.asarray(random_params(likelihood, 3, 20))
    pixels = random_pixels(likelihood, 3, 20)
    found = by_the_chain_rule(likelihood, params, pixels, masses)
    np.testing.assert_allclose(masses, 1, rtol=1e-12)
    np.testing.assert_allclose(found, log_prob(likelihood, params, jnp.asarray(pixels)), rtol=1e-12)


@pytest.mark.quick
def test_coupled_channels_need_their_own_levels():
    class Coupled(Geometric):
        def sites(self, channels):
            return 1

    with one_line_error("no level_log_probs; accepted"):
        level_log_probs(Coupled(), jnp.zeros((2, 1)), jnp.zeros((2, 3), jnp.int32), 0)
