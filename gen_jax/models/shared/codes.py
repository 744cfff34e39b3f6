"""Distributions over codes: posteriors q(z | x) as an encoder gives them, and priors p(z).

A code is a vector of Z latents. Log-probabilities and divergences stay apart for each latent:
`[…, Z]`, in nats.
"""

import dataclasses
import math
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct

from gen_jax.reprs import brief
from gen_jax.typing import Array, Dtype, Float, Key, Labels, Leaf


@runtime_checkable
class Prior(Protocol):
    """p(z | y) over codes: a frozen dataclass or, with parameters of its own, a Flax module."""

    def sample(self, keys: Key, labels: Labels | None = None) -> Float[Array, "B Z"]:
        """One code for each of `keys`."""
        ...

    def log_prob(
        self, codes: Float[Array, "*samples B Z"], labels: Labels | None = None
    ) -> Float[Array, "*samples B Z"]:
        """log p(z_j | y) in nats, for each latent; given those before it, if they are coupled."""
        ...

    def kl(
        self, posterior: "Posterior", labels: Labels | None = None
    ) -> Float[Array, "B Z"] | None:
        """KL(q(z_j | x) ‖ p(z_j | y)) in nats in closed form, of latents that are independent.

        None: it is estimated from the codes drawn.
        """
        ...


@runtime_checkable
class Posterior(Protocol):
    """q(z | x) over codes of Z independent latents; a pytree, whose leaves are its parameters."""

    def sample(self, key: Key, num_samples: int) -> Float[Array, "samples *batch Z"]:
        """`num_samples` codes of each posterior."""
        ...

    def log_prob(self, codes: Float[Array, "*shape Z"]) -> Float[Array, "*shape Z"]:
        """log q(z_j | x) in nats, for each latent."""
        ...

    def mode(self) -> Float[Array, "*batch Z"]:
        """The most probable code."""
        ...

    def mean(self) -> Float[Array, "*batch Z"]:
        """The expected code."""
        ...


@struct.dataclass
class DiagonalGaussian:
    """N(loc, exp(log_scale)²) for each latent (Kingma & Welling 2014)."""

    loc: Leaf
    """Means, `[…, Z]`."""
    log_scale: Leaf
    """Logarithms of the standard deviations, `[…, Z]`."""

    __repr__ = brief

    def sample(self, key: Key, num_samples: int) -> Float[Array, "samples *batch Z"]:
        """μ + σ ⊙ ε: differentiable in μ and σ."""
        shape = (num_samples, *self.loc.shape)
        noise = jax.random.normal(key, shape, self.loc.dtype)
        return self.loc[None] + jnp.exp(self.log_scale)[None] * noise

    def log_prob(self, codes: Float[Array, "*shape Z"]) -> Float[Array, "*shape Z"]:
        log_scale = _lead(self.log_scale, codes)
        standard = (codes - _lead(self.loc, codes)) * jnp.exp(-log_scale)
        return -0.5 * jnp.square(standard) - log_scale - 0.5 * math.log(2 * math.pi)

    def mode(self) -> Float[Array, "*batch Z"]:
        return self.loc

    def mean(self) -> Float[Array, "*batch Z"]:
        return self.loc


@struct.dataclass
class IndependentBernoulli:
    """Latents 0 or 1 with these logits of 1."""

    logits: Leaf
    """Log-odds of 1, `[…, Z]`."""

    __repr__ = brief

    def sample(self, key: Key, num_samples: int) -> Float[Array, "samples *batch Z"]:
        """Draws as real numbers 0 and 1; no gradient passes."""
        shape = (num_samples, *self.logits.shape)
        uniform = jax.random.uniform(key, shape, self.logits.dtype)
        return (uniform < jax.nn.sigmoid(self.logits)[None]).astype(self.logits.dtype)

    def log_prob(self, codes: Float[Array, "*shape Z"]) -> Float[Array, "*shape Z"]:
        logits = _lead(self.logits, codes)
        return codes * logits - jax.nn.softplus(logits)

    def straight_through(
        self, codes: Float[Array, "samples *batch Z"]
    ) -> Float[Array, "samples *batch Z"]:
        """The codes, with the gradient of the mean (Bengio, Léonard & Courville 2013)."""
        mean = self.mean()[None]
        return codes + (mean - jax.lax.stop_gradient(mean))

    def mode(self) -> Float[Array, "*batch Z"]:
        return (self.logits > 0).astype(self.logits.dtype)

    def mean(self) -> Float[Array, "*batch Z"]:
        return jax.nn.sigmoid(self.logits)


@dataclasses.dataclass(frozen=True)
class StandardNormal:
    """N(0, I), the prior of real codes (Kingma & Welling 2014)."""

    num_latents: int
    dtype: Dtype = "float32"

    def sample(self, keys: Key, labels: Labels | None = None) -> Float[Array, "B Z"]:
        del labels
        shape = (self.num_latents,)
        return jax.vmap(lambda key: jax.random.normal(key, shape, self.dtype))(keys)

    def log_prob(
        self, codes: Float[Array, "*shape Z"], labels: Labels | None = None
    ) -> Float[Array, "*shape Z"]:
        del labels
        return -0.5 * jnp.square(codes) - 0.5 * math.log(2 * math.pi)

    def kl(
        self, posterior: Posterior, labels: Labels | None = None
    ) -> Float[Array, "*batch Z"] | None:
        """½ (μ² + σ² − 1) − log σ of a Gaussian (Kingma & Welling 2014, appendix B)."""
        del labels
        if not isinstance(posterior, DiagonalGaussian):
            return None
        squares = jnp.square(posterior.loc) + jnp.exp(2 * posterior.log_scale)
        return 0.5 * (squares - 1) - posterior.log_scale


@dataclasses.dataclass(frozen=True)
class FairCoins:
    """Independent fair coins, the prior of bits."""

    num_latents: int
    dtype: Dtype = "float32"

    def sample(self, keys: Key, labels: Labels | None = None) -> Float[Array, "B Z"]:
        del labels
        shape = (self.num_latents,)
        bits = jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, shape))(keys)
        return bits.astype(self.dtype)

    def log_prob(
        self, codes: Float[Array, "*shape Z"], labels: Labels | None = None
    ) -> Float[Array, "*shape Z"]:
        del labels
        return jnp.full_like(codes, -math.log(2))

    def kl(
        self, posterior: Posterior, labels: Labels | None = None
    ) -> Float[Array, "*batch Z"] | None:
        """log 2 − entropy, of independent bits."""
        del labels
        if not isinstance(posterior, IndependentBernoulli):
            return None
        logits, one = posterior.logits, posterior.mean()
        return (
            one * jax.nn.log_sigmoid(logits) + (1 - one) * jax.nn.log_sigmoid(-logits) + math.log(2)
        )


def _lead(x: Array, codes: Array) -> Array:
    """`x` with the leading axes of `codes` that it lacks."""
    return x.reshape((1,) * (codes.ndim - x.ndim) + x.shape)
