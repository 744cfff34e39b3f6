"""The random numbers of an image: they belong to it and its sites, not to a batch.

Image n of a key has a key of its own, `fold_in(key, n)`, whatever is drawn beside it and on however
many devices. That key is threefry's, whatever generator the one given is for (`gen_jax.keys`). A
model with a code has two keys of the one given: of the sites, and of the codes.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.keys import threefry
from gen_jax.models.shared.protocol import Model, apply_prior, has_code, refuse, traits, with_code
from gen_jax.typing import Array, Float, Integer, Key, Labels, Variables


def site_noise(
    model: Model, key: Key, ids: Integer[Array | np.ndarray, " B"]
) -> Float[Array, "B N R"]:
    """Uniform numbers in (0, 1) of every site, by site id; `ids` are the images' numbers."""
    of = traits(model)
    key = _sites_and_codes(key)[0] if has_code(model) else threefry(key)
    height, width, channels = of.image_shape
    shape = (height * width * of.sites, of.likelihood.num_noise(channels))
    eps = float(jnp.finfo(of.real_dtype).eps)

    def image(key: Key) -> Array:
        return jax.random.uniform(key, shape, of.real_dtype, eps, 1 - eps)

    return jax.vmap(image)(_image_keys(key, ids))


def prior_codes(
    model: Model,
    variables: Variables,
    key: Key,
    ids: Integer[Array | np.ndarray, " B"],
    labels: Labels | None = None,
) -> Float[Array, "B Z"]:
    """The codes, drawn from the prior, of the images that `key` defines.

    `ids` are the images' numbers: 0 … num_images − 1 are those of `sample`.
    """
    check_prior(model)
    _, key = _sites_and_codes(key)
    return apply_prior(with_code(model), variables, "sample", _image_keys(key, ids), labels)


def check_prior(model: Model) -> None:
    """ValueError if codes have no distribution."""
    if with_code(model).prior is None:
        refuse(model, "one with a distribution over codes")


def _sites_and_codes(key: Key) -> tuple[Key, Key]:
    """The keys of a model with a code: of its sites, and of its codes."""
    sites, codes = jax.random.split(threefry(key))
    return sites, codes


def _image_keys(key: Key, ids: Integer[Array | np.ndarray, " B"]) -> Key:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(ids))
