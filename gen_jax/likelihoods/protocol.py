"""What every likelihood offers, and what a codec asks of one."""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from gen_jax.likelihoods.numerics import along_last
from gen_jax.typing import Array, Bool, DTypeLike, Float, Integer


@runtime_checkable
class Likelihood(Protocol):
    """What every likelihood offers; `S`, `P`, `V` and `R` as in `gen_jax.typing`."""

    @property
    def levels(self) -> int:
        """Number of levels of a channel."""
        ...

    def sites(self, channels: int) -> int:
        """Sites of a pixel."""
        ...

    def num_params(self, channels: int) -> int:
        """Parameters of a site."""
        ...

    def num_noise(self, channels: int) -> int:
        """Uniform numbers that draw a site."""
        ...

    def log_prob(
        self, params: Float[Array, "*batch S P"], pixels: Integer[Array, "*batch C"]
    ) -> Float[Array, "*batch S"]:
        """Log-probability of every site, in nats; NaN where a pixel is no level."""
        ...

    def draw(
        self,
        params: Float[Array, "*batch P"],
        noise: Float[Array, "*batch R"],
        temperature: Float[Array, ""],
        given: Integer[Array, "*batch V"],
        known: Bool[Array, "*batch V"],
    ) -> Integer[Array, "*batch V"]:
        """One site's levels as a function of uniform noise: `given` where `known`.

        Temperature 1 draws from the model, 0 takes the most probable level. A likelihood may have
        `draw_tempered` too, the same at temperatures above 0: the samplers call that where the
        temperature is known to be one, if what 0 asks for is not wanted in the program.
        """
        ...

    def mean(
        self, params: Float[Array, "*batch S P"], channels: int
    ) -> Float[Array, "*batch {channels}"]:
        """The expected level of every channel, in 0 … levels − 1: what one looks at."""
        ...

    def marginal(
        self, pixels: Integer[Array, "images *batch C"], dtype: DTypeLike
    ) -> Float[Array, "*batch S P"]:
        """Parameters that fit images pixel by pixel: where an output's bias may start."""
        ...


def level_log_probs(
    likelihood: Likelihood,
    params: Float[Array, "*batch P"],
    levels: Integer[Array, "*batch V"],
    value: int,
) -> Float[Array, "*batch levels"]:
    """Log-probability of every level of value number `value` of a site, in nats.

    Given the values before it, which `levels` has: by the chain rule they add up to `log_prob`,
    and a codec codes by them. A likelihood says it itself, by a method of this name; of one with a
    site for each channel it is asked of `log_prob`, level by level. ValueError for one that couples
    channels and has no such method.
    """
    own = getattr(likelihood, "level_log_probs", None)
    if own is not None:
        return own(params, levels, value)
    if levels.shape[-1] > 1:
        raise ValueError(
            f"likelihood is {type(likelihood).__name__}, which has no level_log_probs; accepted, "
            "where a site has several channels: one with it"
        )
    # A site does not know which channel it is: a pixel of one will do.
    pixels = jnp.broadcast_to(
        along_last(jnp.arange(likelihood.levels, dtype=jnp.int32), params.ndim),
        (*params.shape[:-1], likelihood.levels),
    )
    params = jnp.broadcast_to(params[..., None, :], (*pixels.shape, params.shape[-1]))
    return likelihood.log_prob(params[..., None, :], pixels[..., None])[..., 0]
