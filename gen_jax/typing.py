"""Array aliases and the axis legend.

B  images in a batch
H  rows of an image
W  columns of an image
C  channels of a pixel
S  sites of a pixel: what is drawn at once (1, or one for each channel)
P  parameters of a site's distribution
V  levels of a site (C // S)
R  uniform random numbers that draw a site
N  sites of an image in generation order (H * W * S)
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt

# What a user hands in may be a NumPy array too.
Levels: TypeAlias = Integer[Array | np.ndarray, "B H W C"]
Labels: TypeAlias = Integer[Array | np.ndarray, " B"]
Known: TypeAlias = Bool[Array | np.ndarray, "..."]
SiteParams: TypeAlias = Float[Array, "B H W S P"]
Nats: TypeAlias = Float[Array, " B"]

Dtype: TypeAlias = Literal["float32", "bfloat16", "float64"]
Key: TypeAlias = jax.Array
# What a model hands from step to step, and what a block hands to its steps: any pytree.
Carry: TypeAlias = Any
Context: TypeAlias = Any
Draw: TypeAlias = Callable[[int, Float[Array, "B P"]], Integer[Array, "B V"]]

__all__ = [
    "Array",
    "Bool",
    "Carry",
    "Context",
    "Draw",
    "Dtype",
    "Float",
    "Int",
    "Integer",
    "Key",
    "Known",
    "Labels",
    "Levels",
    "Nats",
    "SiteParams",
    "UInt",
]
