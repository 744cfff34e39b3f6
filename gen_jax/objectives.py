"""What is maximised and reported: one value an image, in nats, never reduced."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gen_jax.models.autoregressive import AutoregressiveModel
from gen_jax.typing import Array, Float, Key, Labels, Levels, Nats


def log_likelihood(
    model: AutoregressiveModel,
    variables: Any,
    images: Levels,
    labels: Labels | None = None,
    *,
    rngs: dict[str, Key] | None = None,
) -> Nats:
    """log p(x | y) in nats, `[B]`. Pass `rngs={"dropout": key}` to train with dropout.

    ValueError if shapes, types or labels are not what the model takes.
    """
    sites = log_likelihood_map(model, variables, images, labels, rngs=rngs)
    return jnp.sum(sites, axis=(1, 2, 3))


def log_likelihood_map(
    model: AutoregressiveModel,
    variables: Any,
    images: Levels,
    labels: Labels | None = None,
    *,
    rngs: dict[str, Key] | None = None,
) -> Float[Array, "B H W S"]:
    """log p(x_i | x_<i, y) of every site in nats: where an image surprises the model."""
    params: Any = model.apply(variables, images, labels, rngs=rngs)
    return model.likelihood.log_prob(params, jnp.asarray(images))


def log_posterior(
    model: AutoregressiveModel, variables: Any, images: Levels
) -> Float[Array, "B K"]:
    """log p(y | x) in nats by Bayes' rule with equal priors: the model as a classifier."""
    if model.num_classes is None:
        raise ValueError("the model has no classes (num_classes=None): nothing to classify")
    batch = images.shape[0]
    scores = [
        log_likelihood(model, variables, images, jnp.full((batch,), y, jnp.int32))
        for y in range(model.num_classes)
    ]
    return jax.nn.log_softmax(jnp.stack(scores, axis=-1))


def bits_per_dim(
    nats: Float[Array, "*batch"], image_shape: tuple[int, int, int]
) -> Float[Array, "*batch"]:
    """−nats / (ln 2 · H · W · C): the only place that converts."""
    return -nats / (math.log(2) * math.prod(image_shape))
