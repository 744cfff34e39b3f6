"""Whether a shipped model still gives what it gave: fixed images, scored without any noise."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import objectives
from gen_jax.models.shared.protocol import (
    Model,
    apply_prior,
    encoded,
    has_code,
    has_encoder,
    has_posterior,
    takes_labels,
    traits,
)
from gen_jax.precision import matmul_precision
from gen_jax.typing import Array, Labels, Levels, Variables

IMAGES = "the first 64 test digits of scikit-learn, enlarged to the image"
_COUNT = 64


def fixed_images(model: Model) -> tuple[np.ndarray, np.ndarray | None]:
    """Images that every machine has, and labels if the model takes them: `IMAGES`.

    Integer arithmetic alone makes them, so that they are the same everywhere.
    """
    from gen_jax import data  # which scikit-learn gives: not to load a model

    digits = data.load("digits").test
    images = _enlarged(digits.images[:_COUNT, ..., 0].astype(np.int64), model.image_shape[:2])
    # 0 … 1 as a fraction of whole numbers; to the nearest level.
    top, whole = model.likelihood.levels - 1, 16 * _weight(model.image_shape[:2])
    levels = (2 * images * top + whole) // (2 * whole)
    levels = np.repeat(levels[..., None], model.image_shape[-1], axis=-1)
    if not takes_labels(model):
        return levels.astype(np.int32), None
    assert digits.labels is not None
    return levels.astype(np.int32), digits.labels[:_COUNT] % traits(model).num_classes


def _side(shape: tuple[int, ...]) -> int:
    """Of the digit inside the image: with a margin like MNIST's, 20 of 28."""
    side = min(shape)
    return side if side <= 8 else 5 * side // 7


def _weight(shape: tuple[int, ...]) -> int:
    return (2 * _side(shape)) ** 2


def _enlarged(digits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Digits `[B, 8, 8]`, bilinear, in the middle of images of `shape`; times `_weight`."""
    side = _side(shape)
    place = np.clip((2 * np.arange(side) + 1) * 8 - side, 0, 14 * side)
    low, part = place // (2 * side), place % (2 * side)
    high = np.minimum(low + 1, 7)
    tall = digits[:, low] * (2 * side - part)[:, None] + digits[:, high] * part[:, None]
    both = tall[:, :, low] * (2 * side - part) + tall[:, :, high] * part
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    images = np.zeros((len(digits), *shape), np.int64)
    images[:, top : top + side, left : left + side] = both
    return images


def fixed_measure(model: Model) -> str:
    """What `fixed_scores` gives of this model, in words."""
    if not has_code(model):
        return "log p(x)"
    if has_posterior(model):
        return "log p(x | z) - KL(q(z | x) || p(z)), z the mode of q(z | x)"
    return "log p(x | z(x))" if has_encoder(model) else "log p(x | z), z = 0"


def fixed_scores(
    model: Model, variables: Variables, images: Levels, labels: Labels | None = None
) -> np.ndarray:
    """One value an image, in nats: `fixed_measure`. No noise, whose values change between
    versions of JAX."""
    with matmul_precision("highest"):
        nats = jax.jit(_scores, static_argnums=0)(model, variables, images, labels)
    return np.asarray(nats, np.float64)


def _scores(model: Model, variables: Variables, images: Levels, labels: Labels | None) -> Array:
    if not has_code(model):
        return objectives.log_likelihood(model, variables, images, labels)
    kl: Array | float = 0.0
    if has_posterior(model):
        posterior = model.apply(variables, images, labels, method="encode")
        codes = posterior.mode()
        kl = jnp.sum(apply_prior(model, variables, "kl", posterior, labels), axis=-1)
    elif has_encoder(model):
        codes = encoded(model, variables, images, labels)
    else:
        codes = jnp.zeros((len(images), model.num_latents))
    return objectives.reconstruction(model, variables, codes, images, labels) - kl
