"""p(pixel | parameters) against independent implementations, at the edges, and its draws."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gen_jax import checks
from gen_jax.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    DiscretizedLogisticMixture,
    Likelihood,
)

from .cases import chain_rule, one_line_error

pytestmark = pytest.mark.quick

EVERY = [
    (Bernoulli(), 1),
    (Bernoulli(), 3),
    (Categorical(2), 1),
    (Categorical(5), 3),
    (Categorical(256), 1),
    (DiscretizedLogisticMixture(2, 3), 1),
    (DiscretizedLogisticMixture(16, 3), 3),
    (DiscretizedLogisticMixture(256, 2), 1),
]
SMALL = [
    (Bernoulli(), 1),
    (Categorical(5), 1),
    (DiscretizedLogisticMixture(2, 3), 1),
    (DiscretizedLogisticMixture(5, 2), 1),
    (DiscretizedLogisticMixture(3, 2), 3),
]
every = pytest.mark.parametrize(("likelihood", "channels"), EVERY, ids=str)
small = pytest.mark.parametrize(("likelihood", "channels"), SMALL, ids=str)


def random_params(likelihood, channels, batch, scale=1.0, seed=0):
    """[batch, S, P]."""
    shape = (batch, likelihood.sites(channels), likelihood.num_params(channels))
    return np.random.default_rng(seed).normal(0, scale, shape)


def random_pixels(likelihood, channels, batch, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, likelihood.levels, (batch, channels)).astype(np.int32)


def draw(likelihood, channels, params, noise, temperature=1.0, given=None, known=None):
    """Draws for params [*batch, P] and noise [*batch, R]; as NumPy."""
    params = jnp.asarray(params)
    values = channels // likelihood.sites(channels)
    shape = (*params.shape[:-1], values)
    given = jnp.zeros(shape, jnp.int32) if given is None else jnp.asarray(given, jnp.int32)
    known = jnp.zeros(shape, bool) if known is None else jnp.asarray(known)
    noise = jnp.asarray(noise, params.dtype)
    temperature = jnp.asarray(temperature, params.dtype)
    return np.asarray(jitted_draw(likelihood, params, noise, temperature, given, known))


@functools.partial(jax.jit, static_argnums=0)
def jitted_draw(likelihood, *arguments):
    return likelihood.draw(*arguments)


@functools.partial(jax.jit, static_argnums=0)
def log_prob(likelihood, params, pixels):
    return likelihood.log_prob(params, pixels)


# log_prob against the definition.


def softplus(x):
    return np.logaddexp(0, x)


def log_bin_by_hand(likelihood, level, mean, log_scale):
    """log of the logistic's mass between the edges of a bin, from the two tails' logs.

    log(F(b) − F(a)) with F in logs: taken on the side of the mean where F is small, so that the
    difference loses nothing; the outermost edges are at infinity.
    """
    levels = likelihood.levels
    level = int(level)
    scale = np.exp(max(log_scale, -7.0))
    x, half = 2 * level / (levels - 1) - 1, 1 / (levels - 1)
    low = -np.inf if level == 0 else (x - half - mean) / scale
    high = np.inf if level == levels - 1 else (x + half - mean) / scale
    if low + high > 0:  # the other tail, by symmetry
        low, high = -high, -low
    log_high = -softplus(-high)
    if low == -np.inf:
        return log_high
    # log(e^b − e^a) = b + log(1 − e^{a−b}), and a − b = log F(low) − log F(high).
    gap = -softplus(-low) - log_high
    if gap > -1e-3:  # a narrow bin in a wide distribution: the density times the width
        centre = (low + high) / 2
        return -softplus(-centre) - softplus(centre) + np.log(high - low)
    return log_high + np.log(-np.expm1(gap))


def mixture_by_hand(likelihood, params, pixel):
    """SPECS of Salimans et al. 2017, component by component and channel by channel."""
    k, channels = likelihood.components, len(pixel)
    weights, rest = params[:k], params[k:].reshape(-1, k)
    means, log_scales = rest[:channels], rest[channels : 2 * channels]
    coefficients = np.tanh(rest[2 * channels :])
    x = 2 * np.asarray(pixel, float) / (likelihood.levels - 1) - 1
    terms = []
    for i in range(k):
        term = weights[i] - special.logsumexp(weights)
        for c in range(channels):
            mean = means[c, i]
            if c == 1:
                mean += coefficients[0, i] * x[0]
            if c == 2:
                mean += coefficients[1, i] * x[0] + coefficients[2, i] * x[1]
            term += log_bin_by_hand(likelihood, pixel[c], mean, log_scales[c, i])
        terms.append(term)
    return special.logsumexp(terms)


def log_prob_by_hand(likelihood, params, pixel):
    """[S] for params [S, P] and one pixel [C]."""
    if isinstance(likelihood, Bernoulli):
        return [-softplus(-z if x else z) for z, x in zip(params[:, 0], pixel, strict=True)]
    if isinstance(likelihood, Categorical):
        return special.log_softmax(params, axis=-1)[np.arange(len(pixel)), pixel]
    return [mixture_by_hand(likelihood, params[0], pixel)]


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


def all_pixels(likelihood, channels):
    return np.array(list(itertools.product(range(likelihood.levels), repeat=channels)), np.int32)


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

EXTREMES = {
    Bernoulli: [[-1e4], [1e4], [0.0]],
    Categorical: [[1e4, -1e4], [-1e4, 1e4], [0.0, 1e4], [-1e4, -1e4]],
}
MIXTURE_EXTREMES = {
    "logits": [-1e4, 0.0, 1e4],
    "mean": [-1e3, -1.0, 0.0, 1.0, 1e3],
    "log_scale": [-50.0, -7.0, 0.0, 60.0],
    "coefficient": [-1e4, 0.0, 1e4],
}


def extreme_params(likelihood, channels):
    """[batch, S, P]."""
    sites, count = likelihood.sites(channels), likelihood.num_params(channels)
    if not isinstance(likelihood, DiscretizedLogisticMixture):
        rows = [np.resize(row, count) for row in EXTREMES[type(likelihood)]]
        return np.repeat(np.array(rows)[:, None], sites, axis=1)
    k = likelihood.components
    rows = []
    for logit, mean, log_scale, coefficient in itertools.product(*MIXTURE_EXTREMES.values()):
        weights = np.resize([logit, 0.0], k)
        means = np.resize([mean, -mean], (channels, k))
        scales = np.resize([log_scale], (channels, k))
        coefficients = np.resize([coefficient], (channels * (channels - 1) // 2, k))
        rows.append(np.concatenate([weights, *means, *scales, *coefficients]))
    return np.array(rows)[:, None]


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


# Draws.


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [7, 64, 256])
def test_impossible_levels_are_never_drawn(levels, dtype):
    """Weight zero, probability zero: also for noise within rounding of where the levels meet."""
    likelihood = Categorical(levels)
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == np.float64):
        for _ in range(20):
            possible = rng.random(levels) < 0.3
            possible[rng.integers(levels)] = True
            logits = np.where(possible, rng.normal(0, 3, levels), -1e9).astype(dtype)
            bounds = np.cumsum(special.softmax(logits.astype(np.float64)))
            eps = np.finfo(dtype).eps
            near = bounds[:, None] * (1 + eps * np.arange(-6, 7)[None] / 2)
            noise = np.concatenate([near.reshape(-1), [eps, 0.5, 1 - eps]])
            noise = np.clip(noise, eps, 1 - eps).astype(dtype)[:, None]
            batch = np.broadcast_to(logits, (len(noise), levels))
            for temperature in (1.0, 0.3):
                drawn = draw(likelihood, 1, batch, noise, temperature)[:, 0]
                assert possible[drawn].all()


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


@pytest.mark.parametrize("components", [0, -3])
def test_components_out_of_range(components):
    with one_line_error(f"components is {components}; accepted: whole numbers of at least 1"):
        DiscretizedLogisticMixture(256, components)


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


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
@pytest.mark.parametrize("count", [2, 128, 129, 256, 257, 65536])
def test_levels_in_range_whatever_their_type(count, dtype):
    limits = np.iinfo(dtype)
    values = np.array([-1, 0, 1, 127, 128, 255, 256, 65535, 65536, limits.min, limits.max])
    values = values[(values >= limits.min) & (values <= limits.max)]
    found = checks.in_range(jnp.asarray(values, dtype), count)
    expected = (values >= 0) & (values < count)
    assert expected.all() if found is None else (found == expected).all()
    assert (found is None) == (limits.min == 0 and limits.max < count)
