"""What likelihoods share."""

import jax
import jax.numpy as jnp

from gen_jax import checks
from gen_jax.typing import Array

_FEW = 32
"""Up to so many weights every cumulative sum is added up by itself."""


def set_whole(likelihood: object, name: str, least: int, most: int | None = None) -> None:
    """A field as an int: NumPy's have another type, and so another program."""
    value = checks.whole(name, getattr(likelihood, name), least, most)
    object.__setattr__(likelihood, name, value)


def temper(logits: Array, temperature: Array) -> Array:
    """Logits over T with a maximum of 0, so that a tiny T cannot overflow; T = 0 is read as 1."""
    below_max = logits - jnp.max(logits, axis=-1, keepdims=True)
    return below_max / jnp.where(temperature > 0, temperature, 1)


def along_last(x: Array, ndim: int) -> Array:
    """A vector along the last of `ndim` axes."""
    return x.reshape((1,) * (ndim - 1) + (-1,))


@jax.custom_jvp
def log_sigmoid(x: Array) -> Array:
    """log σ(x), whose slope is σ(−x): JAX's own computes both again for it, in three steps."""
    return jax.nn.log_sigmoid(x)


@log_sigmoid.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return log_sigmoid(*primals), tangents[0] * jax.nn.sigmoid(-primals[0])


def logit(u: Array) -> Array:
    return jnp.log(u) - jnp.log1p(-u)


def log1mexp(log_x: Array) -> Array:
    """log(1 − e^{−x}) from log x, for any x > 0: x may underflow or overflow."""
    small = log_x < -6.0
    # From e^7 on it is 0 in any type, and so is its slope: no infinity comes into it.
    x = jnp.exp(jnp.minimum(jnp.where(small, 0.0, log_x), 7.0))
    # log(1 − e^{−x}) = log x − x/2 + x²/24 − …; the next term is below 1e-12 here.
    tiny = jnp.exp(jnp.where(small, log_x, 0.0))
    return jnp.where(small, log_x - tiny / 2 + tiny * tiny / 24, jnp.log(-jnp.expm1(-x)))


def inverse_cdf(logits: Array, u: Array, temperature: Array) -> Array:
    """The level at which the cumulative probability passes u; the mode at temperature 0."""
    positive = temperature > 0
    tempered = temper(logits, temperature)
    # At temperature 0 all weight lies on the largest logit, and sums before it do not pass 0.
    weights = jnp.exp(jnp.where(positive | (tempered == 0), tempered, -jnp.inf))
    cumulative = _cumulative(weights)
    # Against u times the last sum: rounding can never push past a level of positive weight.
    threshold = jnp.where(positive, u, 0)[..., None] * cumulative[..., -1:]
    passed = jnp.sum(cumulative <= threshold, axis=-1, dtype=jnp.int32)
    return jnp.minimum(passed, logits.shape[-1] - 1)  # of logits that are not finite all may be


def _cumulative(weights: Array) -> Array:
    """Sums along the last axis, of every weight and those before it."""
    count = weights.shape[-1]
    if count > _FEW:
        return jnp.cumsum(weights, axis=-1)
    # Each sum by itself: XLA fuses that with what stands around it, and no cumsum.
    up_to = jnp.tri(count, dtype=bool).reshape((1,) * (weights.ndim - 1) + (count, count))
    return jnp.sum(jnp.where(up_to, weights[..., None, :], 0), axis=-1)
