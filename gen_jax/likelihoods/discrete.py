"""Likelihoods with a probability for each level."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from gen_jax import checks
from gen_jax.likelihoods.numerics import along_last, inverse_cdf, log_sigmoid, logit, set_whole
from gen_jax.typing import Array, Bool, DTypeLike, Float, Integer


@dataclasses.dataclass(frozen=True)
class Bernoulli:
    """Binary channels, of levels 0 and 1; the parameter is the logit of level 1."""

    @property
    def levels(self) -> int:
        return 2

    def sites(self, channels: int) -> int:
        return channels

    def num_params(self, channels: int) -> int:
        del channels
        return 1

    def num_noise(self, channels: int) -> int:
        del channels
        return 1

    def log_prob(
        self, params: Float[Array, "*batch S P"], pixels: Integer[Array, "*batch C"]
    ) -> Float[Array, "*batch S"]:
        logits = params[..., 0]
        sign = jnp.where(pixels == 1, 1, -1).astype(logits.dtype)
        return log_sigmoid(checks.nan_unless(checks.in_range(pixels, 2), sign) * logits)

    def draw(
        self,
        params: Float[Array, "*batch P"],
        noise: Float[Array, "*batch R"],
        temperature: Float[Array, ""],
        given: Integer[Array, "*batch V"],
        known: Bool[Array, "*batch V"],
    ) -> Integer[Array, "*batch V"]:
        # u < sigmoid(logit / T), as logit(u) * T < logit: temperature 0 needs no division.
        drawn = temperature * logit(noise) < params
        return jnp.where(known, given, drawn.astype(given.dtype))

    def level_log_probs(
        self, params: Float[Array, "*batch P"], levels: Integer[Array, "*batch V"], value: int
    ) -> Float[Array, "*batch levels"]:
        """See `gen_jax.likelihoods.level_log_probs`; so too below."""
        del levels, value
        return log_sigmoid(jnp.concatenate([-params, params], axis=-1))

    def mean(
        self, params: Float[Array, "*batch S P"], channels: int
    ) -> Float[Array, "*batch {channels}"]:
        del channels
        return jax.nn.sigmoid(params[..., 0])

    def marginal(
        self, pixels: Integer[Array, "images *batch C"], dtype: DTypeLike
    ) -> Float[Array, "*batch S P"]:
        # Laplace's rule of succession: finite for a pixel that never changes, and for one image.
        ones = jnp.sum(pixels, axis=0, dtype=jnp.int32).astype(dtype)
        return (jnp.log1p(ones) - jnp.log1p(pixels.shape[0] - ones))[..., None]


@dataclasses.dataclass(frozen=True)
class Categorical:
    """`levels`-way softmax for each channel (van den Oord et al. 2016); parameters are logits."""

    levels: int = 256
    """Number of levels of a channel: they are 0 … levels − 1."""

    def __post_init__(self) -> None:
        set_whole(self, "levels", 2, 65536)

    def sites(self, channels: int) -> int:
        return channels

    def num_params(self, channels: int) -> int:
        del channels
        return self.levels

    def num_noise(self, channels: int) -> int:
        del channels
        return 1

    def log_prob(
        self, params: Float[Array, "*batch S P"], pixels: Integer[Array, "*batch C"]
    ) -> Float[Array, "*batch S"]:
        picked = jnp.take_along_axis(params, pixels[..., None].astype(jnp.int32), axis=-1)
        nats = picked[..., 0] - jax.nn.logsumexp(params, axis=-1)
        return checks.nan_unless(checks.in_range(pixels, self.levels), nats)

    def draw(
        self,
        params: Float[Array, "*batch P"],
        noise: Float[Array, "*batch R"],
        temperature: Float[Array, ""],
        given: Integer[Array, "*batch V"],
        known: Bool[Array, "*batch V"],
    ) -> Integer[Array, "*batch V"]:
        drawn = inverse_cdf(params, noise[..., 0], temperature)
        return jnp.where(known, given, drawn[..., None].astype(given.dtype))

    def level_log_probs(
        self, params: Float[Array, "*batch P"], levels: Integer[Array, "*batch V"], value: int
    ) -> Float[Array, "*batch levels"]:
        del levels, value
        return jax.nn.log_softmax(params)

    def mean(
        self, params: Float[Array, "*batch S P"], channels: int
    ) -> Float[Array, "*batch {channels}"]:
        del channels
        levels = jnp.arange(self.levels, dtype=params.dtype)
        return jnp.sum(jax.nn.softmax(params) * along_last(levels, params.ndim), axis=-1)

    def marginal(
        self, pixels: Integer[Array, "images *batch C"], dtype: DTypeLike
    ) -> Float[Array, "*batch S P"]:
        shape = pixels.shape[1:]
        each = jnp.arange(math.prod(shape))[None]
        values = pixels.reshape(pixels.shape[0], -1).astype(jnp.int32)
        counts = jnp.zeros((each.size, self.levels), jnp.int32).at[each, values].add(1)
        counts = counts.reshape(*shape, self.levels)
        # One more image is shared out among the levels: log frequencies stay finite.
        shared = counts.astype(dtype) + 1 / self.levels
        return jnp.log(shared) - math.log(pixels.shape[0] + 1)
