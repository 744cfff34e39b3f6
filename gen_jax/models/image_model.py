"""What every model of this library is: a module that knows its images and what its output means."""

from typing import Any, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gen_jax.layers.convolution import param_dtype
from gen_jax.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture
from gen_jax.typing import Array, Dtype, Float, Integer, Labels, Levels, SiteParams


class ImageModel(nn.Module):
    """Base of all models; the module is its own configuration.

    ValueError at construction if a field is out of range.
    """

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    likelihood: Bernoulli | Categorical | DiscretizedLogisticMixture
    """p(pixel | parameters); it decides the sites of a pixel."""
    num_classes: int | None = None
    """Condition on a label in 0 … num_classes − 1; None for an unconditional model."""
    dtype: Dtype = "float32"
    """Type of the computation; parameters are float32, float64 with the last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {self.image_shape}; (height, width, channels) needed")
        if self.num_classes is not None:
            at_least("num_classes", self.num_classes, 1)
        check_choice("dtype", self.dtype, Dtype)

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        """Parameters of every site, `[B, H, W, S, P]`."""
        raise NotImplementedError

    @property
    def sites(self) -> int:
        """Sites of a pixel, S."""
        return self.likelihood.sites(self.image_shape[-1])

    @property
    def values_per_site(self) -> int:
        """Levels of a site, V."""
        return self.image_shape[-1] // self.sites

    @property
    def params_per_site(self) -> int:
        """Parameters of a site, P."""
        return self.likelihood.num_params(self.image_shape[-1])

    @property
    def real_dtype(self) -> Dtype:
        """Type of likelihoods and noise: that of the parameters, so at least float32."""
        return param_dtype(self.dtype)

    def scale(self, levels: Integer[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Integer levels to real numbers in −1 … 1; nobody else scales."""
        return levels.astype(self.dtype) * (2 / (self.likelihood.levels - 1)) - 1

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


def check_choice(name: str, value: Any, choices: Any) -> None:
    """ValueError unless a field is one of the choices of a Literal."""
    if value not in get_args(choices):
        raise ValueError(f"{name} is {value!r}; known: {', '.join(get_args(choices))}")


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
