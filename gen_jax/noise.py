"""The random numbers of an image: they belong to it and its sites, not to a batch.

Image n of a key has a key of its own, `fold_in(key, n)`, whatever is drawn beside it and on however
many devices. That key is threefry's, whatever generator the one given is for (`gen_jax.keys`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.keys import threefry
from gen_jax.models.image_model import ImageModel
from gen_jax.models.latent import LatentModel
from gen_jax.typing import Array, Float, Integer, Key


def site_noise(
    model: ImageModel, key: Key, ids: Integer[Array | np.ndarray, " B"]
) -> Float[Array, "B N R"]:
    """Uniform numbers in (0, 1) for every site, by site id: image n's come from fold_in(key, n)."""
    key = threefry(key)
    height, width, channels = model.image_shape
    shape = (height * width * model.sites, model.likelihood.num_noise(channels))
    dtype = model.real_dtype
    eps = float(jnp.finfo(dtype).eps)

    def image(n: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(key, n), shape, dtype, eps, 1 - eps)

    return jax.vmap(image)(jnp.asarray(ids))


def prior_codes(
    model: Any, key: Key, ids: Integer[Array | np.ndarray, " B"]
) -> Float[Array, "B Z"]:
    """The codes, drawn from the prior of a `LatentModel`, of the images that `key` defines.

    `ids` are the images' numbers: 0 … num_images − 1 are those of `sample`.
    """
    check_prior(model)
    _, key = jax.random.split(threefry(key))

    def code(n: Array) -> Array:
        shape = (model.num_latents,)
        return model.prior.prior_sample(jax.random.fold_in(key, n), shape, model.real_dtype)

    return jax.vmap(code)(jnp.asarray(ids))


def check_prior(model: LatentModel) -> None:
    """ValueError if codes have no distribution."""
    if model.prior is None:
        raise ValueError(
            f"{type(model).__name__} has no distribution over codes: there is nothing to draw from"
        )
