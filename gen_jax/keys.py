"""Keys whose numbers depend on nothing but the key: not on the batch, nor on the devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.typing import Key


def threefry(key: Key) -> Key:
    """A threefry key made of one of any implementation; a threefry key itself.

    What `rbg` and `unsafe_rbg`, which many jobs on TPUs have for their default, draw under `vmap`
    or over several devices is not what they draw for one image alone.
    """
    accepted = "accepted: one key, such as jax.random.key(0)"
    if not isinstance(key, jax.Array | np.ndarray):
        raise TypeError(f"key is {key!r}; {accepted}")
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ():
        if jax.random.key_impl(key) == "threefry2x32":
            return key
        key = jax.random.key_data(key)
    if key.dtype != jnp.uint32 or key.ndim != 1 or key.size < 2:
        raise ValueError(f"key has dtype {key.dtype} and shape {key.shape}; {accepted}")
    words = jnp.asarray(key)
    start = jax.random.wrap_key_data(words[:2], impl="threefry2x32")
    return functools.reduce(jax.random.fold_in, list(words[2:]), start)
