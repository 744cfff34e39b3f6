"""What every model of this library is: a module that knows its images and what its output means."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jax.core import Tracer

from gen_jax import checks
from gen_jax.likelihoods import Likelihood
from gen_jax.models.shared.protocol import check_inputs, traits
from gen_jax.typing import Array, Dtype, Float, Integer, Labels, Levels, SiteParams

_POSITIONAL = ("image_shape", "likelihood")


class ImageModel(nn.Module):
    """Base of all models; the module is its own configuration.

    ValueError at construction if a field is out of range.
    """

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    likelihood: Likelihood
    """p(pixel | parameters); it decides the sites of a pixel."""
    num_classes: int | None = None
    """Condition on a class label in 0 … num_classes − 1; None for an unconditional model."""
    dtype: Dtype = "float32"
    """Type of the computation. Parameters are float32, and float64 where this is float64."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # or it would not hash, or equal no other module
            if field.init and field.name not in ("parent", "name", "likelihood"):
                object.__setattr__(self, field.name, checks.plain(getattr(self, field.name)))
        super().__post_init__()
        traits(self)
        if self.num_classes is not None:
            checks.whole("num_classes", self.num_classes, 1)
        checks.choice("dtype", self.dtype, Dtype)

    def __repr__(self) -> str:
        """The call that makes it, without what is by default."""
        shown = [repr(self.image_shape), repr(self.likelihood)]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_keyword = field.init and field.name not in (*_POSITIONAL, "parent", "name")
            if is_keyword and value != field.default:
                shown.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        """Parameters of every site, `[B, H, W, S, P]`."""
        raise NotImplementedError

    @property
    def needs_examples(self) -> bool:
        """Whether `init` looks at images of the training set."""
        return False

    def adapted(self, image_shape: tuple[int, int, int], num_images: int) -> "ImageModel":
        """The model for a training set of so many images of this shape."""
        del num_images
        return self.clone(image_shape=image_shape)

    # What follows from the fields.

    @property
    def sites(self) -> int:
        """Sites of a pixel, S."""
        return traits(self).sites

    @property
    def values_per_site(self) -> int:
        """Levels of a site, V."""
        return traits(self).values_per_site

    @property
    def params_per_site(self) -> int:
        """Parameters of a site, P."""
        return traits(self).params_per_site

    @property
    def real_dtype(self) -> Dtype:
        """Type of likelihoods and noise: that of the parameters, so at least float32."""
        return traits(self).real_dtype

    def scale(self, levels: Integer[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Integer levels to real numbers in −1 … 1; nobody else scales levels."""
        return levels.astype(self.dtype) * (2 / (self.likelihood.levels - 1)) - 1

    def check(self, images: object, labels: object) -> tuple[Levels, Labels | None]:
        """`check_inputs`: images and labels as arrays, if they are what the model takes."""
        return check_inputs(self, images, labels)

    def site_params(
        self,
        features: Float[Array, "B H W SP"],
        images: Levels | None = None,
        labels: Labels | None = None,
    ) -> SiteParams:
        """The head's output as `[B, H, W, S, P]`, at least in float32.

        All are NaN for one of `images` with a level, or a label, that does not exist.
        """
        params = self.site_vector(
            features.reshape(*features.shape[:-1], self.sites, self.params_per_site)
        )
        return self.nan_out_of_range(params, images, labels)

    def nan_out_of_range(self, x: Array, images: Levels | None, labels: Labels | None) -> Array:
        """`x`, and NaN in the rows of images with a level, or a label, that does not exist.

        Of use where they are traced: others were looked at, and cost nothing here.
        """
        for values, count in ((images, self.likelihood.levels), (labels, self.num_classes)):
            if isinstance(values, Tracer) and count is not None:
                valid = checks.in_range(values, count)
                if valid is not None:
                    valid = jnp.all(valid, axis=tuple(range(1, valid.ndim)))
                    valid = valid.reshape(x.shape[0], *(1,) * (x.ndim - 1))
                x = checks.nan_unless(valid, x)
        return x

    def site_vector(self, params: Float[Array, "*batch P"]) -> Float[Array, "*batch P"]:
        """The network's output in the likelihood's type."""
        return params.astype(self.real_dtype)
