"""The protocol that every autoregressive model keeps: one set of parameters, two views.

    p(x) = prod_i p(x_i | x_<i),   i over the sites in generation order

Whole image: `model.apply(variables, images, labels)` gives the parameters of every site at once.
Next site: `init_carry`, `begin_block` and `step` give those of one more site, from a carry; one
nested scan over blocks and steps (`gen_jax.sampling`) then serves every model. The model knows
nothing of noise, the sampler nothing of models.
"""

from typing import Any, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gen_jax.layers.convolution import param_dtype
from gen_jax.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture
from gen_jax.typing import (
    Array,
    Carry,
    Context,
    Draw,
    Dtype,
    Float,
    Integer,
    Labels,
    Levels,
    SiteParams,
)


class AutoregressiveModel(nn.Module):
    """Base of the autoregressive models; the module is its own configuration.

    ValueError at construction if a field is out of range.
    """

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    likelihood: Bernoulli | Categorical | DiscretizedLogisticMixture
    """p(pixel | parameters); it decides the sites of a pixel."""
    num_classes: int | None = None
    """Condition on a label in 0 … num_classes − 1; None for an unconditional model."""
    features: int = 64
    """Width of the hidden layers, rounded up to a multiple of the sites of a pixel."""
    num_layers: int = 7
    """Depth."""
    dropout: float = 0.0
    """Rate; active iff a `dropout` rng is passed."""
    dtype: Dtype = "float32"
    """Type of the computation; parameters are float32, float64 with the last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {self.image_shape}; (height, width, channels) needed")
        if self.num_classes is not None:
            at_least("num_classes", self.num_classes, 1)
        at_least("features", self.features, 1)
        at_least("num_layers", self.num_layers, 1)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if self.dtype not in get_args(Dtype):
            raise ValueError(f"dtype is {self.dtype!r}; known: {', '.join(get_args(Dtype))}")

    # The whole-image view.

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        """Parameters of every site, `[B, H, W, S, P]`, each a function of earlier sites only."""
        raise NotImplementedError

    # The next-site view.

    def blocks(self) -> np.ndarray:
        """Site ids in generation order, int `[blocks, steps, sites]`; −1 pads.

        The id of site s at pixel (h, w) is (h · W + w) · S + s. Here a block is an image row.
        """
        height, width, _ = self.image_shape
        return np.arange(height * width * self.sites).reshape(height, width, self.sites)

    def init_carry(self, batch: int, labels: Labels | None = None) -> Carry:
        """The carry before the first block: zeros in real units, class projections."""
        raise NotImplementedError

    def begin_block(
        self, carry: Carry, block: Integer[Array, ""], previous: Integer[Array, "T S B V"]
    ) -> tuple[Carry, Context]:
        """Everything in a block that does not depend on its own draws.

        `previous` holds the levels of the block just finished, `[steps, sites, B, V]` (of no
        meaning for block 0). Every leaf of the context leads with `[steps]`.
        """
        raise NotImplementedError

    def step(self, carry: Carry, context: Context, draw: Draw) -> Carry:
        """One step's sites: calls `draw(i, params [B, P]) -> levels [B, V]` once for each."""
        raise NotImplementedError

    # What the models share.

    @property
    def sites(self) -> int:
        """Sites of a pixel, S."""
        return self.likelihood.sites(self.image_shape[-1])

    @property
    def params_per_site(self) -> int:
        """Parameters of a site, P."""
        return self.likelihood.num_params(self.image_shape[-1])

    @property
    def real_dtype(self) -> Dtype:
        """Type of likelihoods and noise: that of the parameters, so at least float32."""
        return param_dtype(self.dtype)

    @property
    def width(self) -> int:
        """`features`, rounded up to a multiple of the channel groups."""
        return self.round_up(self.features)

    def round_up(self, features: int) -> int:
        """`features`, rounded up to a multiple of the channel groups."""
        return -(-features // self.sites) * self.sites

    def scale(self, levels: Integer[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Integer levels to real numbers in −1 … 1; nobody else scales."""
        return levels.astype(self.dtype) * (2 / (self.likelihood.levels - 1)) - 1

    def scale_row(self, previous: Integer[Array, "W S B V"]) -> Float[Array, "W B C"]:
        """A finished row of the image in real numbers."""
        width, _, batch, _ = previous.shape
        return jnp.swapaxes(self.scale(previous), 1, 2).reshape(width, batch, -1)

    def check(self, images: Levels, labels: Labels | None) -> None:
        """ValueError unless images and labels have the shapes and types that the model takes."""
        self.check_dtype()
        if images.ndim != 4 or images.shape[1:] != tuple(self.image_shape):
            raise ValueError(
                f"images have shape {images.shape}; {type(self).__name__} takes "
                f"[B, {', '.join(map(str, self.image_shape))}]"
            )
        if not jnp.issubdtype(images.dtype, jnp.integer):
            raise ValueError(
                f"images have dtype {images.dtype}; integer levels "
                f"0 … {self.likelihood.levels - 1} are needed"
            )
        _check_range(images, self.likelihood.levels, "images", "levels")
        check_labels(self.num_classes, labels, images.shape[0])

    def check_dtype(self) -> None:
        """ValueError if JAX would compute in float32 where the model asks for float64."""
        if self.dtype == "float64" and jax.dtypes.canonicalize_dtype("float64") != jnp.float64:
            raise ValueError("dtype is 'float64', which needs jax_enable_x64")

    def site_params(self, features: Float[Array, "B H W SP"]) -> SiteParams:
        """The head's output as `[B, H, W, S, P]`, at least in float32."""
        return self.site_vector(
            features.reshape(*features.shape[:-1], self.sites, self.params_per_site)
        )

    def site_vector(self, params: Float[Array, "*batch P"]) -> Float[Array, "*batch P"]:
        """The network's output in the likelihood's type."""
        return params.astype(self.real_dtype)


def at_least(name: str, value: int, minimum: int) -> None:
    """ValueError if a field is too small."""
    if value < minimum:
        raise ValueError(f"{name} is {value}; it must be at least {minimum}")


def check_kernel_size(name: str, size: int) -> None:
    """ValueError unless a kernel's size is odd and at least 3."""
    if size < 3 or size % 2 == 0:
        raise ValueError(f"{name} is {size}; it must be odd and at least 3")


def check_labels(num_classes: int | None, labels: Labels | None, batch: int) -> None:
    """ValueError unless labels are given exactly when the model has classes, one an image."""
    if num_classes is None:
        if labels is not None:
            raise ValueError("labels were given to a model without classes (num_classes=None)")
        return
    if labels is None:
        raise ValueError(f"the model has {num_classes} classes and needs labels, one an image")
    if labels.shape != (batch,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels have shape {labels.shape} and dtype {labels.dtype}; "
            f"integers of shape ({batch},) are needed"
        )
    _check_range(labels, num_classes, "labels", "classes")


def _check_range(values: Any, count: int, name: str, kind: str) -> None:
    """ValueError unless all are in 0 … count − 1. Traced values cannot be looked at."""
    if isinstance(values, Tracer) or values.size == 0:
        return
    values = np.asarray(values)  # NumPy, so that a jit around this does not trace it
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= count:
        raise ValueError(
            f"{name} go from {low} to {high}; the model's {count} {kind} are 0 … {count - 1}"
        )
