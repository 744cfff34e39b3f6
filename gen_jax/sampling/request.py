"""What is asked of the sampler: all arrays that a drawing depends on, checked against the model."""

from typing import NamedTuple

import numpy as np
from jax.core import Tracer

from gen_jax import checks
from gen_jax.models.shared.protocol import Model, check_inputs, has_code, refuse, traits
from gen_jax.reprs import brief
from gen_jax.typing import (
    AnyLabels,
    AnyLevels,
    AnyMask,
    Array,
    ArrayLike,
    Int,
    Integer,
    Key,
    Known,
    Labels,
    Levels,
    Variables,
)


class Request(NamedTuple):
    """What is to be drawn, and all arrays that it depends on; `generate` and `run` take it."""

    variables: Variables
    """The model's parameters, as `init` gives them."""
    key: Key
    """The key of all images: with an image's number it fixes the image's noise."""
    ids: Integer[Array | np.ndarray, " B"]
    """Number of each image under the key: 0 … num_images − 1 are those of `sample`."""
    given: Levels
    """Levels `[B, H, W, C]`, kept where `known`; elsewhere of no meaning."""
    known: Known | None
    """Which levels are given, bool in the shape of `given`; None if none is."""
    labels: Labels | None = None
    """The class of each image, of a model with classes."""
    temperature: ArrayLike = 1.0
    """1 draws from the model, 0 takes the most probable level of every site."""

    __repr__ = brief


def to_sample(
    model: Model,
    variables: Variables,
    key: Key,
    num_images: int,
    *,
    labels: AnyLabels | None = None,
    temperature: ArrayLike = 1.0,
    first: int = 0,
) -> Request:
    """Images `first …` of all those that `key` defines, drawn whole: what `sample` asks for.

    ValueError for a number or labels that are not accepted; `run` checks the rest.
    """
    of = traits(model)
    num_images = checks.whole("num_images", num_images, 1)
    labels = checks.labels(labels, of.num_classes, num_images)
    # Of no size: a chunk of them is made at a time.
    given = np.broadcast_to(np.zeros((), np.int32), (num_images, *of.image_shape))
    return Request(variables, key, _numbers(first, num_images), given, None, labels, temperature)


def to_complete(
    model: Model,
    variables: Variables,
    key: Key,
    images: AnyLevels,
    known: AnyMask,
    *,
    labels: AnyLabels | None = None,
    temperature: ArrayLike = 1.0,
    first: int = 0,
) -> Request:
    """`images` where `known`, drawn elsewhere: what `complete` asks for.

    ValueError for images, a mask or labels that are not accepted; `run` checks the rest.
    """
    images, labels = check_inputs(model, images, labels)
    if has_code(model):
        refuse(model, "an autoregressive model")
    if len(images) == 0:
        raise ValueError(f"images has shape {images.shape}; accepted: at least one image")
    # As `to_sample` has them: the same program, whatever integers they were.
    images = images if isinstance(images, Tracer) else np.asarray(images).astype(np.int32)
    known, ids = checks.mask(known, images.shape), _numbers(first, len(images))
    return Request(variables, key, ids, images, known, labels, temperature)


def _numbers(first: int, count: int) -> Int[np.ndarray, " B"]:
    """The numbers of `count` images from `first` on."""
    first = checks.whole("first", first, 0, 2**31 - count)
    return np.arange(first, first + count, dtype=np.int32)
