"""The encoder that every decoder has: the code of an image, found by inverting the decoder."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gen_jax import objectives
from gen_jax.models.image_model import at_least
from gen_jax.models.latent import LatentModel
from gen_jax.typing import Array, Float, Key, Labels, Levels, Nats


class Inversion(NamedTuple):
    """What `encode_by_inversion` found for each image."""

    codes: Float[Array, "B Z"]
    """The best code of all starts and steps."""
    reconstruction: Nats
    """log p(x | z) at it, in nats, `[B]`."""
    objective: Nats
    """log p(x | z) + prior_weight · log p(z) at it, in nats, `[B]`: what was made large."""


def encode_by_inversion(
    decoder: LatentModel,
    variables: Any,
    images: Levels,
    labels: Labels | None = None,
    *,
    key: Key | None = None,
    num_starts: int = 4,
    num_steps: int = 300,
    learning_rate: float = 0.1,
    prior_weight: float = 1.0,
    starts: Float[Array, "starts B Z"] | None = None,
) -> Inversion:
    """argmax_z log p(x | z) + prior_weight · log p(z), by Adam from several starts at once.

    `decoder` is any model with `decode`: a decoder trained alone, a VAE with Gaussian latents, an
    auto-encoder. p(z) = N(0, I): with prior_weight 1 the code is the mode of p(z | x), with 0 that
    of the likelihood. Starts are drawn from p(z) with `key` (a fixed one if None), the first of
    them is 0; `starts` gives others, such as an encoder's code. Adam's rate falls as a cosine, and
    of everything seen the best code stands. Compiled once for a model, shapes and settings.

    ValueError for a model of bits, images or labels that it does not take, or counts below 1.
    """
    if not isinstance(decoder, LatentModel):
        raise ValueError(f"{type(decoder).__name__} has no code to find")
    if not decoder.has_real_codes:
        raise ValueError("latents are bits, which have no gradient: nothing to invert by")
    decoder.check(images, labels)
    at_least("num_starts", num_starts, 1)
    at_least("num_steps", num_steps, 1)
    learning_rate, prior_weight = float(learning_rate), float(prior_weight)
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate is {learning_rate}; it must be greater than 0, finite")
    if not 0 <= prior_weight < math.inf:
        raise ValueError(f"prior_weight is {prior_weight}; it must be 0 or more, finite")
    if starts is None:
        key = jax.random.key(0) if key is None else key
        shape = (num_starts, images.shape[0], decoder.num_latents)
        starts = jax.random.normal(key, shape, decoder.real_dtype).at[0].set(0)
    elif (
        starts.ndim != 3
        or starts.shape[1:] != (images.shape[0], decoder.num_latents)
        or len(starts) == 0
        or not jnp.issubdtype(starts.dtype, jnp.floating)
    ):
        raise ValueError(
            f"starts have shape {starts.shape} and dtype {starts.dtype}; real numbers of shape "
            f"[starts, {images.shape[0]}, {decoder.num_latents}] are needed"
        )
    return _invert(
        decoder, num_steps, learning_rate, prior_weight, variables, images, labels, starts
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _invert(
    decoder: LatentModel,
    num_steps: int,
    learning_rate: float,
    prior_weight: float,
    variables: Any,
    images: Levels,
    labels: Labels | None,
    starts: Array,
) -> Inversion:
    # optax mixes int32 counts and Python floats with the codes' type.
    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

        def invert(codes: Float[Array, "B Z"]) -> Inversion:
            def objective(codes: Array) -> tuple[Array, Inversion]:
                fit = objectives.reconstruction(decoder, variables, codes, images, labels)
                prior = jnp.sum(-0.5 * jnp.square(codes) - 0.5 * jnp.log(2 * jnp.pi), axis=-1)
                value = fit + prior_weight * prior
                return -jnp.sum(value), Inversion(codes, fit, value)

            def step(state: Any, _: None) -> tuple[Any, None]:
                codes, moments, best = state
                gradient, seen = jax.grad(objective, has_aux=True)(codes)
                updates, moments = optimizer.update(gradient, moments, codes)
                codes = jnp.asarray(optax.apply_updates(codes, updates), codes.dtype)
                return (codes, moments, _better(best, seen)), None

            first = Inversion(
                codes, *(jnp.full(codes.shape[:1], -jnp.inf, codes.dtype) for _ in range(2))
            )
            state = (codes, optimizer.init(codes), first)
            (codes, _, best), _ = jax.lax.scan(step, state, None, num_steps)
            return _better(best, objective(codes)[1])

        found = jax.vmap(invert)(starts)
    winner = jnp.argmax(found.objective, axis=0)
    rows = jnp.arange(images.shape[0])
    return Inversion(*(x[winner, rows] for x in found))


def _better(best: Inversion, other: Inversion) -> Inversion:
    """Image by image."""
    wins = other.objective > best.objective
    return Inversion(
        *(
            jnp.where(wins.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
            for new, old in zip(other, best, strict=True)
        )
    )
