"""Likelihoods, their parameters at random and at the edges, and their definition by hand."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gen_jax.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture

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


def all_pixels(likelihood, channels):
    return np.array(list(itertools.product(range(likelihood.levels), repeat=channels)), np.int32)


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


@dataclasses.dataclass(frozen=True)
class Geometric:
    """One parameter, the log of a ratio; another's likelihood, which says no levels by itself."""

    levels: int = 5

    def sites(self, channels):
        return channels

    def num_params(self, channels):
        return 1

    def num_noise(self, channels):
        return 1

    def log_prob(self, params, pixels):
        logits = params * jnp.arange(self.levels, dtype=params.dtype).reshape(
            (1,) * (params.ndim - 1) + (-1,)
        )
        at = pixels[..., None].astype(jnp.int32)
        return jnp.take_along_axis(jax.nn.log_softmax(logits), at, axis=-1)[..., 0]

    def not_coded_with(self, *args):
        raise NotImplementedError

    draw = mean = marginal = not_coded_with
