"""The encoder that every decoder has: the code of an image, found by inverting the decoder."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gen_jax import checks, objectives
from gen_jax.keys import threefry
from gen_jax.models.shared.codes import StandardNormal
from gen_jax.models.shared.parameters import check_variables
from gen_jax.models.shared.protocol import (
    CodeModel,
    Model,
    apply_prior,
    check_inputs,
    refuse,
    traits,
    unbound,
    with_code,
)
from gen_jax.reprs import brief
from gen_jax.typing import (
    AnyLabels,
    AnyLevels,
    Array,
    ArrayLike,
    Float,
    Key,
    Labels,
    Levels,
    Nats,
    PyTree,
    Variables,
)


class Inversion(NamedTuple):
    """What `encode_by_inversion` found for each image."""

    codes: Float[Array, "B Z"]
    """The best code of all starts and steps."""
    reconstruction: Nats
    """log p(x | z) at it, in nats, `[B]`."""
    log_joint: Nats
    """log p(x | z) + prior_weight · log p(z) at it, in nats, `[B]`: what was maximised."""

    __repr__ = brief


class _Search(NamedTuple):
    """What Adam carries from step to step."""

    codes: Float[Array, "B Z"]
    moments: PyTree
    """Adam's own state."""
    best: Inversion
    """The best of everything seen so far."""


def encode_by_inversion(
    decoder: Model,
    variables: Variables,
    images: AnyLevels,
    labels: AnyLabels | None = None,
    *,
    key: Key | None = None,
    num_starts: int = 4,
    num_steps: int = 300,
    learning_rate: float = 0.1,
    prior_weight: float = 1.0,
    starts: ArrayLike | None = None,
    chunk_size: int | None = None,
) -> Inversion:
    """argmax_z log p(x | z) + prior_weight · log p(z), by Adam from several starts at once.

    `decoder` is any model with `decode`: a decoder trained alone, a VAE with Gaussian latents, an
    auto-encoder. p(z) is its prior, or N(0, I) where it has none: with prior_weight 1 the code is
    the mode of p(z | x), with 0 that of the likelihood. Starts are drawn from N(0, I) with `key` (a
    fixed one if None), the first of them is 0; `starts` gives others `[starts, B, Z]`, such as an
    encoder's code. Adam's rate falls as a cosine, and of everything seen the best code stands.
    `chunk_size` images are in memory at once (None: all), whose codes do not depend on each other.
    Compiled once for a model, shapes and settings.

    ValueError for a model of bits, images, labels or parameters that it does not take, or counts
    below 1; inside a jit NaN for an image with a level, or a label, that does not exist.
    """
    decoder = with_code(unbound(decoder))
    of = traits(decoder)
    if not decoder.has_real_codes:
        refuse(decoder, "one whose codes are real numbers, which have a gradient")
    images, labels = check_inputs(decoder, images, labels)
    check_variables(decoder, variables)
    num_starts = checks.whole("num_starts", num_starts, 1)
    num_steps = checks.whole("num_steps", num_steps, 1)
    learning_rate = checks.real("learning_rate", learning_rate, 0, above=True)
    prior_weight = checks.real("prior_weight", prior_weight, 0)
    count = len(images)
    chunk = count if chunk_size is None else min(checks.whole("chunk_size", chunk_size, 1), count)
    if starts is None:
        key = threefry(jax.random.key(0, impl="threefry2x32") if key is None else key)
        shape = (num_starts, count, decoder.num_latents)
        starts = jax.random.normal(key, shape, of.real_dtype).at[0].set(0)
    else:
        starts = jnp.asarray(checks.array("starts", starts))
        right = starts.ndim == 3 and starts.shape[1:] == (count, decoder.num_latents)
        if not right or len(starts) == 0 or not jnp.issubdtype(starts.dtype, jnp.floating):
            raise ValueError(
                f"starts has shape {starts.shape} and dtype {starts.dtype}; accepted: real numbers "
                f"[starts, {count}, {decoder.num_latents}]"
            )
        starts = starts.astype(of.real_dtype)
    settings = (decoder, num_steps, learning_rate, prior_weight, variables)
    if chunk == count:
        return _invert(*settings, images, labels, starts)
    found = []
    for start in range(0, count, chunk):  # as many in the last, which repeats one
        at = np.minimum(np.arange(start, start + chunk), count - 1)
        some_labels = None if labels is None else labels[at]
        part = _invert(*settings, images[at], some_labels, starts[:, at])
        found.append(Inversion(*(x[: count - start] for x in part)))
    return Inversion(*(jnp.concatenate(parts) for parts in zip(*found, strict=True)))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _invert(
    decoder: CodeModel,
    num_steps: int,
    learning_rate: float,
    prior_weight: float,
    variables: Variables,
    images: Levels,
    labels: Labels | None,
    starts: Array,
) -> Inversion:
    # optax mixes int32 counts and Python floats with the codes' type.
    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

        def invert(codes: Float[Array, "B Z"]) -> Inversion:
            def loss(codes: Array) -> tuple[Array, Inversion]:
                fit = objectives.reconstruction(decoder, variables, codes, images, labels)
                prior = StandardNormal(decoder.num_latents).log_prob(codes)
                if decoder.prior is not None:
                    prior = apply_prior(decoder, variables, "log_prob", codes, labels)
                value = fit + prior_weight * jnp.sum(prior, axis=-1)
                return -jnp.sum(value), Inversion(codes, fit, value)

            def step(state: _Search, _: None) -> tuple[_Search, None]:
                codes, moments, best = state
                gradient, seen = jax.grad(loss, has_aux=True)(codes)
                updates, moments = optimizer.update(gradient, moments, codes)
                codes = jnp.asarray(optax.apply_updates(codes, updates), codes.dtype)
                return _Search(codes, moments, _better(best, seen)), None

            nothing_seen = Inversion(
                codes, *(jnp.full(codes.shape[:1], jnp.nan, codes.dtype) for _ in range(2))
            )
            state = _Search(codes, optimizer.init(codes), nothing_seen)
            (codes, _, best), _ = jax.lax.scan(step, state, None, num_steps)
            return _better(best, loss(codes)[1])

        found = jax.vmap(invert)(starts)
    seen = jnp.where(jnp.isnan(found.log_joint), -jnp.inf, found.log_joint)
    winner = jnp.argmax(seen, axis=0)
    image = jnp.arange(images.shape[0])
    return Inversion(*(x[winner, image] for x in found))


def _better(best: Inversion, other: Inversion) -> Inversion:
    """Image by image; NaN where nothing else was seen."""
    wins = (other.log_joint > best.log_joint) | jnp.isnan(best.log_joint)
    return Inversion(
        *(
            jnp.where(wins.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
            for new, old in zip(other, best, strict=True)
        )
    )
