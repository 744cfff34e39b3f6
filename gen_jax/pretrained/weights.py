"""Parameters as safetensors, in half precision on the disk. The only file that imports it."""

import hashlib

import numpy as np
from flax import traverse_util
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gen_jax.pretrained.cards import Precision
from gen_jax.typing import Params


def to_bytes(params: Params, dtype: Precision) -> bytes:
    """A file of the parameters, rounded to `dtype`; names are paths, joined by slashes.

    ValueError if a parameter is not finite in it.
    """
    rounded = {}
    for name, value in traverse_util.flatten_dict(dict(params), sep="/").items():
        with np.errstate(over="ignore"):
            rounded[name] = np.ascontiguousarray(np.asarray(value).astype(dtype))
        if not np.isfinite(rounded[name]).all():
            raise ValueError(
                f"the parameter {name} is not finite in {dtype}; accepted: what is finite in it"
            )
    return save(rounded)


def from_bytes(content: bytes) -> Params:
    """The parameters in a file, in float32. ValueError if it is damaged."""
    try:
        flat = {name: value.astype(np.float32) for name, value in load(content).items()}
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(str(error)) from error
    return traverse_util.unflatten_dict(flat, sep="/")


def digest(content: bytes) -> str:
    """What tells a damaged file from a whole one."""
    return hashlib.sha256(content).hexdigest()
