"""Array aliases and the axis legend. Axes that are not a letter are named in words where they are.

Images, sites and their distributions:

B    images in a batch
H    rows of an image
W    columns of an image
C    channels of a pixel
S    sites of a pixel: what is drawn at once (1, or one for each channel)
N    sites of an image by their id, in raster order (H * W * S)
T    steps of a block
V    levels of a site (C // S)
P    parameters of a site's distribution
R    uniform random numbers that draw a site
K    classes
Z    latents of a code

Features in the network:

F F2 F4  features of a map; two and four times as many, where they are gated
I O      features that a layer reads, and gives
J        features of its second input, beside the first
G G2     features of one channel group that a layer reads, and gives
D        features of a head of attention
Q        queries of attention
SI       the pixels to the left of one pixel, flattened
SP       the parameters of all sites of a pixel, flattened
PG       one group of every part of a gate, flattened
kW       the columns of k images side by side
B_k      what is then left of a batch (B // k)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int, Integer, PyTree, UInt

# What a user hands in may be a NumPy array too.
Levels: TypeAlias = Integer[Array | np.ndarray, "B H W C"]
Labels: TypeAlias = Integer[Array | np.ndarray, " B"]
Known: TypeAlias = Bool[Array | np.ndarray, "..."]
# Or what one types, nested lists and one label for all images: `gen_jax.checks` says what is wrong.
AnyLevels: TypeAlias = ArrayLike | Sequence[object]
AnyLabels: TypeAlias = ArrayLike | Sequence[object]
AnyMask: TypeAlias = ArrayLike | Sequence[object]
SiteParams: TypeAlias = Float[Array, "B H W S P"]
Nats: TypeAlias = Float[Array, " B"]

Dtype: TypeAlias = Literal["float32", "bfloat16", "float64"]
Key: TypeAlias = jax.Array
# Parameters by name, as deep as the modules that hold them; {"params": …} of them is variables.
Params: TypeAlias = Mapping[str, PyTree]
Variables: TypeAlias = Mapping[str, Params]
# What a model hands from step to step, and what a block hands to its steps.
Carry: TypeAlias = PyTree
Context: TypeAlias = PyTree
# An array, or what stands for one in a pytree: a shape, a sharding, an axis of a transformation.
Leaf: TypeAlias = PyTree
# Images, and what goes with them: labels, a mask.
Batch: TypeAlias = Mapping[str, Array | np.ndarray]
# An object of JSON, such as run.json's.
Json: TypeAlias = dict[str, Any]
Draw: TypeAlias = Callable[[int, Float[Array, "B P"]], Integer[Array, "B V"]]

__all__ = [
    "AnyLabels",
    "AnyLevels",
    "AnyMask",
    "Array",
    "ArrayLike",
    "Batch",
    "Bool",
    "Carry",
    "Context",
    "DTypeLike",
    "Draw",
    "Dtype",
    "Float",
    "Int",
    "Integer",
    "Json",
    "Key",
    "Known",
    "Labels",
    "Leaf",
    "Levels",
    "Nats",
    "Params",
    "PyTree",
    "SiteParams",
    "UInt",
    "Variables",
]
