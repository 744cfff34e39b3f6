"""p(pixel | parameters) against independent implementations, at the edges; bad input."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.likelihoods import LIKELIHOODS, Categorical, DiscretizedLogisticMixture, Likelihood
from tests.cases import one_line_error
from tests.likelihood_cases import (
    EVERY,
    SMALL,
    all_pixels,
    every,
    extreme_params,
    log_prob,
    log_prob_by_hand,
    random_params,
    random_pixels,
    small,
)

pytestmark = pytest.mark.quick


# log_prob against the definition.


@pytest.mark.parametrize("scale", [0.5, 3.0, 30.0])
@every
def test_log_prob_is_the_definition(x64, likelihood, channels, scale):
    """In float64, to 1e-6 relative or better, for mild and for extreme parameters."""
    batch = 40
    params = random_params(likelihood, channels, batch, scale)
    pixels = random_pixels(likelihood, channels, batch)
    pixels[0], pixels[1] = 0, likelihood.levels - 1
    expected = [log_prob_by_hand(likelihood, p, x) for p, x in zip(params, pixels, strict=True)]
    found = log_prob(likelihood, jnp.asarray(params), jnp.asarray(pixels))
    assert found.dtype == np.float64
    assert found.shape == (batch, likelihood.sites(channels))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


@every
def test_log_prob_in_float32_is_near_float64(likelihood, channels):
    params = random_params(likelihood, channels, 40, 2.0).astype(np.float32)
    pixels = random_pixels(likelihood, channels, 40)
    expected = [log_prob_by_hand(likelihood, p, x) for p, x in zip(params, pixels, strict=True)]
    found = log_prob(likelihood, jnp.asarray(params), jnp.asarray(pixels))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint16])
@every
def test_log_prob_takes_any_integer_type(likelihood, channels, dtype):
    params = jnp.asarray(random_params(likelihood, channels, 5), jnp.float32)
    pixels = random_pixels(likelihood, channels, 5)
    np.testing.assert_array_equal(
        log_prob(likelihood, params, jnp.asarray(pixels.astype(dtype))),
        log_prob(likelihood, params, jnp.asarray(pixels)),
    )


@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 2e-5)])
@pytest.mark.parametrize(
    ("likelihood", "channels"),
    [
        *SMALL,
        (Categorical(256), 1),
        (DiscretizedLogisticMixture(256, 3), 1),
        (DiscretizedLogisticMixture(16, 2), 2),
    ],
    ids=str,
)
def test_levels_add_up_to_one(likelihood, channels, dtype, tolerance, scale):
    """Over every pixel there is; random parameters, up to near-certainties."""
    pixels = all_pixels(likelihood, channels)
    with jax.enable_x64(dtype == np.float64):
        for seed in range(5):
            params = random_params(likelihood, channels, 1, scale, seed).astype(dtype)
            params = jnp.asarray(np.broadcast_to(params, (len(pixels), *params.shape[1:])))
            nats = np.asarray(log_prob(likelihood, params, jnp.asarray(pixels)), np.float64)
            np.testing.assert_allclose(np.exp(nats.sum(-1)).sum(), 1, rtol=tolerance)


# Edges.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("likelihood", "channels"),
    [*EVERY, (DiscretizedLogisticMixture(65536, 2), 1), (DiscretizedLogisticMixture(256, 2), 3)],
    ids=str,
)
def test_finite_at_the_edges(likelihood, channels, dtype):
    """No NaN or infinity in value or gradient, at the first, a middle and the last level."""
    with jax.enable_x64(dtype == np.float64):
        params = jnp.asarray(extreme_params(likelihood, channels).astype(dtype))

        def total(params, pixels):
            nats = likelihood.log_prob(params, pixels)
            return jnp.sum(nats), nats

        value_and_grad = jax.jit(jax.value_and_grad(total, has_aux=True))
        top = likelihood.levels - 1
        for pixel in {(0,) * 3, (top,) * 3, (top // 2,) * 3, (0, top, top // 2), (1, 0, top)}:
            pixels = np.broadcast_to(np.array(pixel, np.int32), (len(params), 3))[:, :channels]
            (_, nats), gradient = value_and_grad(params, jnp.asarray(pixels))
            assert np.isfinite(nats).all()
            assert np.isfinite(gradient).all()
            assert (np.asarray(nats) <= 1e-6).all()


# Contract and bad input.


@every
def test_likelihoods_are_static_values(likelihood, channels):
    """Equal, of equal hash, of the protocol; sites, values and parameters add up."""
    assert isinstance(likelihood, Likelihood)
    assert type(likelihood) is LIKELIHOODS[type(likelihood).__name__]
    assert channels % likelihood.sites(channels) == 0
    if isinstance(likelihood, DiscretizedLogisticMixture):
        means_scales_coefficients = 2 * channels + math.comb(channels, 2)
        expected = likelihood.components * (1 + means_scales_coefficients)
        assert likelihood.num_params(channels) == expected
    assert likelihood.num_noise(channels) >= 1


@pytest.mark.parametrize("levels", [-1, 0, 1, 65537])
@pytest.mark.parametrize("kind", [Categorical, DiscretizedLogisticMixture])
def test_levels_out_of_range(kind, levels):
    with one_line_error(f"levels is {levels}; accepted: whole numbers from 2 to 65536"):
        kind(levels)


@small
def test_what_is_no_level_has_a_log_probability_of_nan(likelihood, channels):
    """So has its gradient; the other sites of the pixel keep theirs."""
    values = np.array([-9, -1, 0, likelihood.levels - 1, likelihood.levels, 255], np.int32)
    pixels = np.repeat(values[:, None], channels, axis=1)
    pixels[:, : channels - 1] = 0  # the last channel alone is wrong
    wrong = (values < 0) | (values >= likelihood.levels)
    params = jnp.asarray(random_params(likelihood, channels, len(values)), jnp.float32)

    @jax.jit
    def score(params, pixels):
        nats, back = jax.vjp(lambda p: likelihood.log_prob(p, pixels), params)
        return nats, *back(jnp.ones_like(nats))

    nats, gradient = score(params, pixels)
    np.testing.assert_array_equal(np.isnan(nats).any(axis=1), wrong)
    np.testing.assert_array_equal(np.isnan(gradient).any(axis=(1, 2)), wrong)
    assert not np.isnan(nats[:, : nats.shape[1] - 1]).any()
