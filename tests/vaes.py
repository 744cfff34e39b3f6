"""Small variational auto-encoders, and means over keys: for the tests of auto-encoders."""

import dataclasses
import itertools
import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from gen_jax import likelihoods, models, objectives
from gen_jax.models import DiagonalGaussian

BERNOULLI = likelihoods.Bernoulli()
PIXELS = models.PixelCNN((2, 2, 1), BERNOULLI)
LIKELIHOODS = {
    "bernoulli": (BERNOULLI, 1),
    "categorical-rgb": (likelihoods.Categorical(3), 3),
    "mixture-rgb": (likelihoods.DiscretizedLogisticMixture(5, 2), 3),
}


def vae(shape=(2, 2, 1), num_latents=1, hidden=(4,), **fields):
    fields = {"likelihood": BERNOULLI, **fields}
    return models.VAE(shape, num_latents=num_latents, hidden=hidden, **fields)


def over_keys(function, count, seed=0):
    """function(key) for `count` keys, stacked."""
    return np.asarray(jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), count)))


def mean_and_error(values):
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def gradients(model, variables, images, count, **settings):
    """Flat gradients of the mean bound, [count, parameters]."""

    def one(key):
        def bound(variables):
            terms = objectives.elbo_terms(model, variables, key, images, **settings)
            return jnp.mean(terms.elbo)

        return jax.flatten_util.ravel_pytree(jax.grad(bound)(variables))[0]

    return over_keys(one, count)


def every_binary(height, width):
    grid = np.array(list(itertools.product([0, 1], repeat=height * width)), np.int32)
    return grid.reshape(-1, height, width, 1)


@dataclasses.dataclass(frozen=True)
class UnitGaussian:
    """N(params, σ²) at the levels themselves: with a linear decoder log p(x) has a closed form."""

    sigma: float = 0.7
    levels: int = 4

    def sites(self, channels):
        return channels

    def num_params(self, channels):
        return 1

    def log_prob(self, params, pixels):
        standard = (pixels.astype(params.dtype) - params[..., 0]) / self.sigma
        return -0.5 * standard**2 - math.log(self.sigma * math.sqrt(2 * math.pi))


class LinearGaussian(models.VAE):
    """x = W z + b + σ ε, with q(z | x) the exact posterior, or one `shift` away from it."""

    shift: float = 0.0

    def setup(self):
        super(models.VAE, self).setup()  # the prior alone
        # Orthogonal columns: the posterior's covariance is diagonal.
        self.matrix = jnp.asarray([[1.0, 2.0], [2.0, -1.0], [0.0, 0.0], [0.0, 0.0]], self.dtype)
        self.offset = jnp.asarray([1.0, 2.0, 1.5, 0.5], self.dtype)

    def encode(self, images, labels=None):
        sigma = self.likelihood.sigma
        precision = 1 + jnp.sum(self.matrix**2, axis=0) / sigma**2
        centred = jnp.asarray(images).reshape(-1, 4).astype(self.dtype) - self.offset[None]
        mean = centred @ self.matrix / sigma**2 / precision[None]
        log_scale = jnp.broadcast_to(-0.5 * jnp.log(precision)[None], mean.shape)
        return DiagonalGaussian(mean + self.shift, log_scale)

    def decode(self, codes, labels=None):
        return (codes @ self.matrix.T + self.offset[None]).reshape(-1, 2, 2, 1, 1)
