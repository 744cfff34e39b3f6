"""The likelihood of PixelCNN++: levels are near if their numbers are."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gen_jax import checks
from gen_jax.likelihoods.numerics import along_last, inverse_cdf, log1mexp, logit, set_whole, temper
from gen_jax.typing import Array, Bool, DTypeLike, Float, Integer


@dataclasses.dataclass(frozen=True)
class DiscretizedLogisticMixture:
    """Mixture of discretized logistics, channels coupled linearly (Salimans et al. 2017, eq. 1–3).

    Parameters of a pixel with C channels, in this order and K of each, one a component: mixture
    logits; the mean of each channel, C times K; the log-scale of each (at least −7), C times K;
    C(C−1)/2 times K coefficients (through tanh): mean_g += c0·r; mean_b += c1·r + c2·g. Levels sit
    at −1 … 1; the outermost bins are open to ±∞. A temperature multiplies the scales and divides
    the mixture logits; at 0 each channel in turn takes its most probable level given the channels
    before it.
    """

    levels: int = 256
    """Number of levels of a channel: they are 0 … levels − 1."""
    components: int = 10
    """Number of logistics in the mixture, K."""

    def __post_init__(self) -> None:
        set_whole(self, "levels", 2, 65536)
        set_whole(self, "components", 1)

    def sites(self, channels: int) -> int:
        del channels
        return 1

    def num_params(self, channels: int) -> int:
        return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def num_noise(self, channels: int) -> int:
        return 2 * channels  # a component and a logistic for each channel

    def log_prob(
        self, params: Float[Array, "*batch S P"], pixels: Integer[Array, "*batch C"]
    ) -> Float[Array, "*batch S"]:
        log_weights, means, log_scales, coefficients = self._split(params[..., 0, :], pixels)
        total = log_weights
        channels = _channels(pixels)
        for c, channel in enumerate(channels):
            mean = self._mean(means, coefficients, channels[:c])
            total = total + self._log_bin(channel, mean, log_scales[..., c, :])
        nats = jax.nn.logsumexp(total, axis=-1)[..., None]
        valid = checks.in_range(pixels, self.levels)
        if valid is not None:
            valid = jnp.all(valid, axis=-1, keepdims=True)
        return checks.nan_unless(valid, nats)

    def draw(
        self,
        params: Float[Array, "*batch P"],
        noise: Float[Array, "*batch R"],
        temperature: Float[Array, ""],
        given: Integer[Array, "*batch V"],
        known: Bool[Array, "*batch V"],
    ) -> Integer[Array, "*batch V"]:
        # The chain rule over channels, p(x_c | x_<c) = sum_k w_k(x_<c) p_k(x_c | x_<c), and not
        # one component for the pixel: the joint distribution is the same, and a channel that is
        # known then conditions the later ones exactly.
        return jax.lax.cond(
            temperature > 0,
            lambda: self.draw_tempered(params, noise, temperature, given, known),
            lambda: self._draw_mode(params, given, known),
        )

    def level_log_probs(
        self, params: Float[Array, "*batch P"], levels: Integer[Array, "*batch V"], value: int
    ) -> Float[Array, "*batch levels"]:
        """Of what underflows in the type of the parameters, the log of its least number."""
        log_weights, means, log_scales, coefficients = self._split(params, levels)
        channels = _channels(levels)[:value]
        for c, channel in enumerate(channels):
            mean = self._mean(means, coefficients, channels[:c])
            log_weights = log_weights + self._log_bin(channel, mean, log_scales[..., c, :])
        weights = jax.nn.softmax(log_weights)
        mean = self._mean(means, coefficients, channels)
        masses = self._masses(mean, log_scales[..., value, :])
        probs = jnp.sum(weights[..., None] * masses, axis=-2)
        return jnp.log(jnp.maximum(probs, jnp.finfo(probs.dtype).tiny))

    def mean(
        self, params: Float[Array, "*batch S P"], channels: int
    ) -> Float[Array, "*batch {channels}"]:
        """The mean of the logistics before they are cut into bins, clipped to the levels.

        A channel is taken given the means of those before it, component by component.
        """
        pixels = jnp.zeros((*params.shape[:-2], channels), jnp.int32)
        log_weights, means, _, coefficients = self._split(params[..., 0, :], pixels)
        values: list[Array] = []
        for c in range(channels):
            mean, start = means[..., c, :], c * (c - 1) // 2
            for before, value in enumerate(values):
                mean = mean + coefficients[..., start + before, :] * value
            values.append(mean)
        mean = jnp.sum(jnp.exp(log_weights)[..., None, :] * jnp.stack(values, axis=-2), axis=-1)
        return (jnp.clip(mean, -1, 1) + 1) * ((self.levels - 1) / 2)

    def marginal(
        self, pixels: Integer[Array, "images *batch C"], dtype: DTypeLike
    ) -> Float[Array, "*batch S P"]:
        # Components of equal weight, a standard deviation to either side of the mean at most.
        real = self._real(pixels, dtype)
        mean, deviation = jnp.mean(real, axis=0), jnp.std(real, axis=0)
        offsets = jnp.linspace(-1, 1, self.components + 2, dtype=dtype)[1:-1]
        means = mean[..., None] + deviation[..., None] * along_last(offsets, mean.ndim + 1)
        scale = jnp.maximum(deviation * (math.sqrt(3) / math.pi), 1 / (self.levels - 1))
        log_scales = jnp.broadcast_to(jnp.log(scale)[..., None], means.shape)
        channels, batch = pixels.shape[-1], means.shape[:-2]
        zeros = jnp.zeros((*batch, channels * (channels - 1) // 2, self.components), dtype)
        numbers = jnp.concatenate([means, log_scales, zeros], axis=-2)
        weights = jnp.zeros((*batch, self.components), dtype)
        return jnp.concatenate([weights, numbers.reshape(*batch, -1)], axis=-1)[..., None, :]

    def draw_tempered(
        self,
        params: Float[Array, "*batch P"],
        noise: Float[Array, "*batch R"],
        temperature: Float[Array, ""],
        given: Integer[Array, "*batch V"],
        known: Bool[Array, "*batch V"],
    ) -> Integer[Array, "*batch V"]:
        """`draw` at a temperature above 0, without the search for the mode beside it."""
        log_weights, means, log_scales, coefficients = self._split(params, given)
        log_weights = jax.nn.log_softmax(temper(log_weights, temperature))
        log_scales = log_scales + jnp.log(temperature)
        channels: list[Array] = []
        for c in range(given.shape[-1]):
            mean = self._mean(means, coefficients, channels)
            component = inverse_cdf(log_weights, noise[..., 2 * c], jnp.ones_like(temperature))
            component = component[..., None]
            mean_k = jnp.take_along_axis(mean, component, axis=-1, mode="clip")
            log_scale_k = jnp.take_along_axis(log_scales[..., c, :], component, -1, mode="clip")
            x = mean_k + jnp.exp(log_scale_k) * logit(noise[..., 2 * c + 1, None])
            drawn = jnp.round((x + 1) * ((self.levels - 1) / 2))
            drawn = jnp.clip(drawn, 0, self.levels - 1).astype(given.dtype)
            channels.append(jnp.where(known[..., c, None], given[..., c, None], drawn))
            if c + 1 < given.shape[-1]:
                log_weights = log_weights + self._log_bin(channels[c], mean, log_scales[..., c, :])
        return jnp.concatenate(channels, axis=-1)

    def _draw_mode(self, params: Array, given: Array, known: Array) -> Array:
        log_weights, means, log_scales, coefficients = self._split(params, given)
        every_level = jnp.arange(self.levels, dtype=given.dtype)
        every_level = every_level.reshape((1,) * (params.ndim - 1) + (-1, 1))
        channels: list[Array] = []
        for c in range(given.shape[-1]):
            mean = self._mean(means, coefficients, channels)
            log_prob = self._log_bin(every_level, mean[..., None, :], log_scales[..., c, None, :])
            log_prob = jax.nn.logsumexp(log_weights[..., None, :] + log_prob, axis=-1)
            mode = jnp.argmax(log_prob, axis=-1, keepdims=True).astype(given.dtype)
            channels.append(jnp.where(known[..., c, None], given[..., c, None], mode))
            log_weights = log_weights + self._log_bin(channels[c], mean, log_scales[..., c, :])
        return jnp.concatenate(channels, axis=-1)

    def _split(self, params: Array, pixels: Array) -> tuple[Array, Array, Array, Array]:
        """Log-weights [..., K], means and log-scales [..., C, K], coefficients [..., pairs, K]."""
        channels, k = pixels.shape[-1], self.components
        rest = params[..., k:].reshape(*params.shape[:-1], -1, k)
        return (
            jax.nn.log_softmax(params[..., :k]),
            rest[..., :channels, :],
            jnp.maximum(rest[..., channels : 2 * channels, :], -7.0),
            jnp.tanh(rest[..., 2 * channels :, :]),
        )

    def _mean(self, means: Array, coefficients: Array, before: Sequence[Array]) -> Array:
        """The components' means of the channel that follows those `before` it, each [..., 1]."""
        c = len(before)
        mean, start = means[..., c, :], c * (c - 1) // 2
        for pair, channel in enumerate(before, start):
            mean = mean + coefficients[..., pair, :] * self._real(channel, mean.dtype)
        return mean

    def _real(self, levels: Array, dtype: DTypeLike) -> Array:
        return levels.astype(dtype) * (2 / (self.levels - 1)) - 1

    def _log_bin(self, levels: Array, mean: Array, log_scale: Array) -> Array:
        """log of the logistic's mass in the bin of `levels`, exact everywhere.

        σ(a) − σ(b) = σ(a) σ(−b) (1 − e^{−(a−b)}), so no small difference is ever taken.
        """
        half = 1 / (self.levels - 1)
        centred = self._real(levels, mean.dtype) - mean
        inverse = jnp.exp(-log_scale)
        above = jax.nn.log_sigmoid((centred + half) * inverse)  # mass below the upper edge
        below = jax.nn.log_sigmoid((half - centred) * inverse)  # mass above the lower edge
        middle = above + below + log1mexp(math.log(2 * half) - log_scale)
        # As int32: of 256 levels and more the last would be another number in 8 bits.
        at_bottom, at_top = levels == 0, levels.astype(jnp.int32) == self.levels - 1
        return jnp.where(at_bottom, above, jnp.where(at_top, below, middle))

    def _masses(
        self, mean: Float[Array, "*batch k"], log_scale: Float[Array, "*batch k"]
    ) -> Float[Array, "*batch k levels"]:
        """The logistic's mass in every bin, as in `_log_bin`; one exponential an edge.

        Neighbours share an edge, which halves the work, and masses are what a mixture adds up.
        """
        half = 1 / (self.levels - 1)
        edges = jnp.arange(1, self.levels, dtype=mean.dtype) * (2 * half) - (1 + half)
        inverse = jnp.exp(-log_scale)[..., None]
        # Short of where the exponential overflows: a mass is then no more than underflown.
        limit = -0.9 * math.log(jnp.finfo(mean.dtype).tiny)
        centred = (along_last(edges, mean.ndim + 1) - mean[..., None]) * inverse
        tail = jnp.exp(-jnp.clip(centred, -limit, limit))
        below, above = 1 / (1 + tail), tail / (1 + tail)  # the mass on either side of an edge
        factor = jnp.exp(log1mexp(math.log(2 * half) - log_scale))[..., None]
        middle = below[..., 1:] * above[..., :-1] * factor
        return jnp.concatenate([below[..., :1], middle, above[..., -1:]], axis=-1)


def _channels(pixels: Integer[Array, "*batch C"]) -> list[Integer[Array, "*batch 1"]]:
    return jnp.split(pixels, pixels.shape[-1], axis=-1)
