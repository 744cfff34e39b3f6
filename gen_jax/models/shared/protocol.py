"""What the library asks of a model, whoever wrote it.

A model is a Flax module that says its `image_shape` and its `likelihood`, and, where they differ
from the defaults, `num_classes` (None) and `dtype` ("float32"). Beside these

* an autoregressive model has `__call__(images, labels)`, the parameters of every site; to be
  sampled by `scan`, also `blocks`, `init_carry`, `begin_block` and `step` (`AutoregressiveModel`);
* a model with a code has `decode(codes, labels)`, and `encode` and a prior (`LatentModel`).

`ImageModel` and its subclasses are bases with all of this, and with checks; nothing asks for them.
"""

from typing import Any, NamedTuple, NoReturn, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax import checks
from gen_jax.layers.convolution import param_dtype
from gen_jax.typing import Dtype, Labels, Levels

_NEXT_SITE = ("blocks", "init_carry", "begin_block", "step")


class Traits(NamedTuple):
    """What follows from a model's fields."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    likelihood: Any
    """A `gen_jax.likelihoods.Likelihood`."""
    num_classes: int | None
    dtype: Dtype
    real_dtype: Dtype
    """Type of likelihoods and noise: that of the parameters, so at least float32."""
    sites: int
    """Sites of a pixel, S."""
    values_per_site: int
    """Levels of a site, V."""
    params_per_site: int
    """Parameters of a site, P."""


def traits(model: Any) -> Traits:
    """The traits of a model. TypeError if it is none."""
    if isinstance(model, type) or not isinstance(model, nn.Module):
        raise TypeError(f"model is {model!r}; accepted: one such as models.PixelCNN(…)")
    name = type(model).__name__
    for field in ("image_shape", "likelihood"):
        if not hasattr(model, field):
            raise TypeError(f"{name} has no {field}; accepted: a module with one")
    shape = checks.wholes("image_shape", model.image_shape, 1, 3)
    likelihood, dtype = model.likelihood, cast(Dtype, getattr(model, "dtype", "float32"))
    if isinstance(likelihood, type) or not hasattr(likelihood, "log_prob"):
        raise TypeError(
            f"likelihood is {likelihood!r}; accepted: one such as likelihoods.Bernoulli()"
        )
    sites = likelihood.sites(shape[-1])
    return Traits(
        image_shape=(shape[0], shape[1], shape[2]),
        likelihood=likelihood,
        num_classes=getattr(model, "num_classes", None),
        dtype=dtype,
        real_dtype=param_dtype(dtype),
        sites=sites,
        values_per_site=shape[-1] // sites,
        params_per_site=likelihood.num_params(shape[-1]),
    )


def takes_labels(model: Any) -> bool:
    """Whether it is conditional on classes."""
    return getattr(model, "num_classes", None) is not None


def has_code(model: Any) -> bool:
    """Whether images come from a code: then all sites are drawn at once, given it."""
    return hasattr(type(model), "decode")


def has_posterior(model: Any) -> bool:
    """Whether it is a variational auto-encoder: an encoder, and a prior over codes."""
    return has_code(model) and hasattr(type(model), "encode") and model.prior is not None


def has_next_site_view(model: Any) -> bool:
    """Whether `scan` can sample it."""
    return all(hasattr(type(model), name) for name in _NEXT_SITE)


def refuse(model: Any, accepted: str) -> NoReturn:
    """Raises the ValueError of a model of the wrong kind."""
    raise ValueError(f"model is {type(model).__name__}; accepted: {accepted}")


def check_inputs(model: Any, images: Any, labels: Any) -> tuple[Levels, Labels | None]:
    """Images and labels as arrays, of whatever was given: lists, or one label for all.

    ValueError unless they have the shapes, types and values that the model takes. Where values
    are traced, and so unknown, the likelihoods and models answer with NaN.
    """
    of = traits(model)
    check_dtype(model)
    images = checks.array("images", images)
    if images.ndim != 4 or images.shape[1:] != of.image_shape:
        raise ValueError(
            f"images has shape {images.shape}; accepted by this {type(model).__name__}: "
            f"[B, {', '.join(map(str, of.image_shape))}]"
        )
    images = checks.levels("images", images, of.likelihood.levels)
    return images, checks.labels(labels, of.num_classes, images.shape[0])


def check_dtype(model: Any) -> None:
    """ValueError if JAX would compute in float32 where the model asks for float64."""
    if traits(model).dtype == "float64" and not has_float64():
        raise ValueError(
            "dtype is 'float64'; accepted, without jax_enable_x64: 'float32', 'bfloat16'"
        )


def has_float64() -> bool:
    """Whether jax_enable_x64 is set."""
    return jax.dtypes.canonicalize_dtype("float64") == jnp.float64
