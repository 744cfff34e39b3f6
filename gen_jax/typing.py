"""Array aliases and the axis legend. Axes that are not a letter are named in words where they are.

Images, sites and their distributions:

```text
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
```

Features in the network:

```text
F F2 F4  features of a map; two and four times as many, where they are gated
I O      features that a layer reads, and gives
J        features of its second input, beside the first
G G2     features of one channel group that a layer reads, and gives
W2 H2    columns and rows at half the resolution, or at twice
L L2     layers side by side, and twice as many
C1       channels of a pixel, and one of ones
TI TO    what all taps of a kernel read, or give, flattened
D        features of a head of attention
Q        queries of attention
SI       the pixels to the left of one pixel, flattened
SP       the parameters of all sites of a pixel, flattened
PG       one group of every part of a gate, flattened
kW       the columns of k images side by side
B_k      what is then left of a batch (B // k)
```
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int, Integer, PyTree, UInt

Levels: TypeAlias = Integer[Array | np.ndarray, "B H W C"]
"""Images as integer levels; like the next two an array of JAX or of NumPy."""
Labels: TypeAlias = Integer[Array | np.ndarray, " B"]
"""Class labels, one an image."""
Known: TypeAlias = Bool[Array | np.ndarray, "..."]
"""What is known of images: see `gen_jax.sampling.complete`."""
AnyLevels: TypeAlias = ArrayLike | Sequence[object]
"""Images as one types them, nested lists too; `gen_jax.checks` says what is wrong with them."""
AnyLabels: TypeAlias = ArrayLike | Sequence[object]
"""Labels likewise, or one for all images."""
AnyMask: TypeAlias = ArrayLike | Sequence[object]
"""What is known, likewise."""
SiteParams: TypeAlias = Float[Array, "B H W S P"]
"""The parameters of every site's distribution: what a model's whole-image view gives."""
Nats: TypeAlias = Float[Array, " B"]
"""A log-probability or a bound of it, one an image, in nats."""

Dtype: TypeAlias = Literal["float32", "bfloat16", "float64"]
"""Type of a computation."""
Key: TypeAlias = jax.Array
"""A key of `jax.random.key`."""
Params: TypeAlias = Mapping[str, PyTree]
"""Parameters by name, as deep as the modules that hold them."""
Variables: TypeAlias = Mapping[str, Params]
"""What `model.init` gives: `{"params": …}`."""
Carry: TypeAlias = PyTree
"""What a model hands from step to step."""
Context: TypeAlias = PyTree
"""What a block hands to its steps."""
Leaf: TypeAlias = PyTree
"""An array, or what stands for one in a pytree: a shape, a sharding, an axis of `vmap`."""
Batch: TypeAlias = Mapping[str, Array | np.ndarray]
"""Images, and what goes with them: labels, a mask."""
Json: TypeAlias = dict[str, Any]
"""An object of JSON, such as run.json's."""
Draw: TypeAlias = Callable[[int, Float[Array, "B P"]], Integer[Array, "B V"]]
"""What a model's `step` calls for each of its sites: the sampler's draw of levels."""

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
