"""Draws from a likelihood: at the edges, by the inverse CDF, given what is known."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gen_jax.likelihoods import Categorical, DiscretizedLogisticMixture
from tests.likelihood_cases import (
    EVERY,
    SMALL,
    draw,
    every,
    extreme_params,
    log_prob,
    log_prob_by_hand,
    mixture_by_hand,
    random_params,
    small,
)

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("noise", ["eps", "1 - eps", "half"])
@pytest.mark.parametrize("temperature", [0.0, 1e-30, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("likelihood", "channels"), [*EVERY, (DiscretizedLogisticMixture(256, 2), 3)], ids=str
)
def test_draws_at_the_edges_are_levels(likelihood, channels, temperature, noise):
    """Extreme parameters, the outermost noise and any temperature: a level that can occur."""
    eps = np.finfo(np.float32).eps
    u = {"eps": eps, "1 - eps": 1 - eps, "half": 0.5}[noise]
    params = extreme_params(likelihood, channels).astype(np.float32)
    batch = params[:, 0] if likelihood.sites(channels) == 1 else params
    shape = (*batch.shape[:-1], likelihood.num_noise(channels))
    drawn = draw(likelihood, channels, batch, np.full(shape, u, np.float32), temperature)
    assert drawn.min() >= 0
    assert drawn.max() < likelihood.levels
    pixels = drawn.reshape(-1, channels)
    nats = np.asarray(log_prob(likelihood, jnp.asarray(params), jnp.asarray(pixels)))
    # What is drawn is possible: the outermost noise is worth log(eps) nats a number at most, a
    # middle bin under a scale of e^60 some 66 a channel; an impossible level is far below.
    if temperature <= 1:
        assert nats.min() > -100 * channels


def tempered(likelihood, params, temperature):
    """Parameters [P] of the distribution that a temperature stands for, one channel."""
    if not isinstance(likelihood, DiscretizedLogisticMixture):
        return params / temperature
    k = likelihood.components
    weights, means, log_scales = params[:k], params[k : 2 * k], params[2 * k :]
    return np.concatenate([weights / temperature, means, log_scales + np.log(temperature)])


@pytest.mark.parametrize("temperature", [1.0, 0.6, 2.0])
@pytest.mark.parametrize(("likelihood", "channels"), SMALL[:-1], ids=str)
def test_frequencies_on_a_grid_are_the_probabilities(x64, likelihood, channels, temperature):
    """The inverse CDF is exact: a fine grid of uniforms falls to levels by their probability."""
    numbers = likelihood.num_noise(channels)
    side = {1: 20_000, 2: 1_000}[numbers]
    grid = (np.arange(side) + 0.5) / side
    noise = np.stack(np.meshgrid(*[grid] * numbers), axis=-1).reshape(-1, numbers)
    for seed in range(3):
        params = random_params(likelihood, 1, 1, 1.0, seed)[0, 0]
        batch = np.broadcast_to(params, (len(noise), params.size))
        drawn = draw(likelihood, 1, batch, noise, temperature)[:, 0]
        frequencies = np.bincount(drawn, minlength=likelihood.levels) / len(noise)
        cooled = tempered(likelihood, params, temperature)[None]
        expected = [
            np.exp(log_prob_by_hand(likelihood, cooled, [x])[0]) for x in range(likelihood.levels)
        ]
        np.testing.assert_allclose(frequencies, expected, atol=2.5 * numbers / side)


@every
def test_temperature_zero_is_the_most_probable_level(x64, likelihood, channels):
    """Channel by channel, each given those before it; whatever the noise."""
    for seed in range(12):
        params = random_params(likelihood, channels, 1, 2.0, seed)[0]
        batch = params[0] if likelihood.sites(channels) == 1 else params
        noise = np.random.default_rng(seed).random(
            (*batch.shape[:-1], likelihood.num_noise(channels))
        )
        drawn = draw(likelihood, channels, batch, noise, 0.0).reshape(-1)
        expected = []
        if isinstance(likelihood, DiscretizedLogisticMixture):
            for c in range(channels):
                scores = [
                    mixture_by_hand(
                        likelihood,
                        first_channels(params[0], likelihood, channels, c + 1),
                        np.array([*expected, x]),
                    )
                    for x in range(likelihood.levels)
                ]
                expected.append(int(np.argmax(scores)))
        else:
            scores = np.array(
                [
                    log_prob_by_hand(likelihood, params, np.full(channels, x))
                    for x in range(likelihood.levels)
                ]
            )
            expected = scores.argmax(0)
        np.testing.assert_array_equal(drawn, expected)


def first_channels(params, likelihood, channels, count):
    """The parameters of the marginal over a pixel's first channels."""
    k = likelihood.components
    rest = params[k:].reshape(-1, k)
    coefficients = rest[2 * channels :][: count * (count - 1) // 2]
    parts = [rest[:count], rest[channels : channels + count], coefficients]
    return np.concatenate([params[:k], *(p.reshape(-1) for p in parts)])


@small
def test_low_temperatures_approach_the_mode(x64, likelihood, channels):
    """The level drawn at T → 0 is the one at T = 0.

    For a mixture only of one narrow component: the outermost bins of a wide one gather its tails,
    and so may be its mode although the mean is elsewhere.
    """
    params = random_params(likelihood, channels, 50, 1.0)[:, 0]
    if isinstance(likelihood, DiscretizedLogisticMixture):
        likelihood = DiscretizedLogisticMixture(likelihood.levels, 1)
        params = random_params(likelihood, channels, 50, 1.0)[:, 0]
        params[:, 1 + channels : 1 + 2 * channels] -= 6
    noise = np.random.default_rng(1).uniform(0.01, 0.99, (50, likelihood.num_noise(channels)))
    cold = draw(likelihood, channels, params, noise, 1e-12)
    np.testing.assert_array_equal(cold, draw(likelihood, channels, params, noise, 0.0))


@every
def test_given_stands_where_known(likelihood, channels):
    """Any mixture of known and unknown, values up to the last level, at any temperature."""
    batch, sites = 30, likelihood.sites(channels)
    rng = np.random.default_rng(0)
    params = random_params(likelihood, channels, batch).astype(np.float32)
    noise = rng.uniform(0.01, 0.99, (batch, sites, likelihood.num_noise(channels)))
    given = rng.integers(0, likelihood.levels, (batch, sites, channels // sites))
    known = rng.random(given.shape) < 0.5
    for temperature in (0.0, 0.5, 1.0):
        free = draw(likelihood, channels, params, noise, temperature)
        drawn = draw(likelihood, channels, params, noise, temperature, given, known)
        np.testing.assert_array_equal(drawn[known], given[known])
        untouched = ~known.any(-1)
        np.testing.assert_array_equal(drawn[untouched], free[untouched])
        # What is given but not known has no influence.
        other = np.where(known, given, (given + 1) % likelihood.levels)
        again = draw(likelihood, channels, params, noise, temperature, other, known)
        np.testing.assert_array_equal(drawn, again)


@pytest.mark.parametrize("levels", [2, 32, 33, 256])
def test_a_softmax_is_drawn_by_its_cumulative_sums(x64, levels):
    """However many levels there are; at temperature 0 the first of the largest logits."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(64, levels)) * 3
    noise = rng.random((64, 1))
    drawn = draw(Categorical(levels), 1, logits, noise, 1.0)[:, 0]
    cumulative = special.softmax(logits, axis=-1).cumsum(axis=-1)
    np.testing.assert_array_equal(drawn, (cumulative <= noise).sum(axis=-1))
    tied = np.round(logits)
    drawn = draw(Categorical(levels), 1, tied, noise, 0.0)[:, 0]
    np.testing.assert_array_equal(drawn, tied.argmax(axis=-1))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("levels", [3, 33])
def test_logits_that_are_not_finite_give_levels(levels, temperature):
    """Which mean nothing, but none that does not exist: the next site is passed it."""
    logits = np.zeros((4, levels), np.float32)
    logits[0, 1], logits[1, 1], logits[2], logits[3, 1] = np.nan, np.inf, -np.inf, -np.inf
    noise = np.full((4, 1), 1 - np.finfo(np.float32).eps, np.float32)
    drawn = draw(Categorical(levels), 1, logits, noise, temperature)
    assert drawn.min() >= 0
    assert drawn.max() < levels
