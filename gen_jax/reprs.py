"""What results say of themselves in a notebook: of an array its type and shape, not its numbers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def brief(self: Any) -> str:
    """The `__repr__` of a named tuple or dataclass; fields that are None are left out.

    Arrays are `float32[64, 10]`, and trees of many arrays `<24 arrays, 472,001 numbers>`.
    """
    fields = getattr(self, "_fields", None)
    if fields is None:
        fields = [field.name for field in dataclasses.fields(self)]
    values = {name: getattr(self, name) for name in fields}
    shown = [f"{name}={_shown(value)}" for name, value in values.items() if value is not None]
    return f"{type(self).__name__}({', '.join(shown)})"


def _shown(value: Any) -> str:
    if _is_array(value):
        if value.shape == () and _is_at_hand(value):
            return str(value.item())
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    leaves = [leaf for leaf in jax.tree.leaves(value) if _is_array(leaf)]
    if isinstance(value, Mapping) and len(leaves) <= 4:
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if leaves and isinstance(value, Mapping | tuple | list):
        return f"<{len(leaves)} arrays, {sum(leaf.size for leaf in leaves):,} numbers>"
    return repr(value)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_at_hand(value: Any) -> bool:
    """Whether it has numbers to read: no trace, no mere shape, nothing donated or elsewhere."""
    if not isinstance(value, jax.Array):
        return isinstance(value, np.generic | np.ndarray)
    if isinstance(value, Tracer) or jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return False
    return value.is_fully_addressable and not value.is_deleted()
