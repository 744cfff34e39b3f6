"""The mixture of logistics: its gradient, its coupled channels, its fields."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.likelihoods import DiscretizedLogisticMixture
from tests.cases import chain_rule, one_line_error
from tests.likelihood_cases import all_pixels, draw, mixture_by_hand, random_params, random_pixels

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_mixture_gradient_is_the_slope(x64, levels, dtype):
    """At moderate parameters, against central differences in float64."""
    likelihood = DiscretizedLogisticMixture(levels, 3)
    params = random_params(likelihood, 3, 6, 0.7)
    pixels = jnp.asarray(random_pixels(likelihood, 3, 6))

    @jax.jit
    def total(params):
        return jnp.sum(likelihood.log_prob(params, pixels))

    direction = random_params(likelihood, 3, 6, 1.0, seed=1)
    gradient = jax.jit(jax.grad(total))(jnp.asarray(params.astype(dtype)))
    slope = np.vdot(np.asarray(gradient, np.float64), direction)
    ahead, behind = (float(total(jnp.asarray(params + s * 1e-6 * direction))) for s in (1, -1))
    tolerance = 1e-6 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=tolerance, atol=1e-4)


@pytest.mark.parametrize("components", [0, -3])
def test_components_out_of_range(components):
    with one_line_error(f"components is {components}; accepted: whole numbers of at least 1"):
        DiscretizedLogisticMixture(256, components)


@pytest.mark.parametrize("known", list(itertools.product([False, True], repeat=3)), ids=str)
def test_known_channels_condition_the_later_ones(x64, known):
    """Channels of a mixture's pixel: each is drawn given all before it, known or drawn."""
    likelihood, count = DiscretizedLogisticMixture(3, 3), 20_000
    params = random_params(likelihood, 3, 1, 1.5, seed=3)[0, 0]
    given, known = np.array([2, 0, 1]), np.array(known)
    noise = np.random.default_rng(0).random((count, 6))
    batch = np.broadcast_to(params, (count, params.size))
    many = np.broadcast_to(given, (count, 3)), np.broadcast_to(known, (count, 3))
    drawn = draw(likelihood, 3, batch, noise, 1.0, *many)
    assert (drawn[:, known] == given[known]).all()
    joint = np.array(
        [np.exp(mixture_by_hand(likelihood, params, x)) for x in all_pixels(likelihood, 3)]
    ).reshape(3, 3, 3)
    expected = np.prod(chain_rule(joint)[~known], axis=0)
    for c in np.flatnonzero(known):
        expected = np.where(np.indices(joint.shape)[c] == given[c], expected, 0)
    np.testing.assert_allclose(expected.sum(), 1)
    found = np.bincount(drawn @ [9, 3, 1], minlength=27).reshape(3, 3, 3) / count
    error = np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(found - expected) <= 4.5 * error + 1e-12).all()


def test_the_mean_of_coupled_channels_is_the_expectation(x64):
    """Of all levels of three channels, each of which leans on those before it."""
    likelihood = DiscretizedLogisticMixture(20, 2)
    weights, means = np.array([0.4, -0.3]), np.array([[0.2, -0.3], [-0.1, 0.2], [0.1, -0.2]])
    log_scales, coefficients = np.full((3, 2), -2.6), np.array([[0.8, -0.6], [-0.5, 0.4], [0.7, 1]])
    params = jnp.asarray(np.concatenate([weights, *means, *log_scales, *coefficients]), "float64")
    grid = np.indices((20, 20, 20)).reshape(3, -1).T
    rows = jnp.broadcast_to(params, (len(grid), 1, params.size))
    probability = np.exp(likelihood.log_prob(rows, jnp.asarray(grid)))
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-9)
    expected = (probability * grid).sum(axis=0)
    assert 2 < expected.min() < expected.max() < 17
    np.testing.assert_allclose(likelihood.mean(params[None], 3), expected, atol=0.02)


def test_levels_in_few_bits_are_the_same_levels():
    """The last of 300 levels, 299, is 43 in 8 bits."""
    likelihood = DiscretizedLogisticMixture(300, components=2)
    pixels = jnp.arange(256)[:, None]
    params = jnp.asarray(random_params(likelihood, 1, 256), jnp.float32)
    expected = likelihood.log_prob(params, pixels)
    found = likelihood.log_prob(params, pixels.astype(jnp.uint8))
    np.testing.assert_array_equal(found, expected)
