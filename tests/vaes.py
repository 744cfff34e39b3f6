"""Small variational auto-encoders, and means over keys: for the tests of auto-encoders."""

import jax
import numpy as np

from gen_jax import likelihoods, models

BERNOULLI = likelihoods.Bernoulli()


def vae(shape=(2, 2, 1), num_latents=1, hidden=(4,), **fields):
    fields = {"likelihood": BERNOULLI, **fields}
    return models.VAE(shape, num_latents=num_latents, hidden=hidden, **fields)


def over_keys(function, count, seed=0):
    """function(key) for `count` keys, stacked."""
    return np.asarray(jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), count)))


def mean_and_error(values):
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
