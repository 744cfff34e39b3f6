"""What the library asks of a model, whoever wrote it.

A model is a Flax module that says its `image_shape` and its `likelihood`, and, where they differ
from the defaults, `num_classes` (None) and `dtype` ("float32"). Beside these

* an autoregressive model has `__call__(images, labels)`, the parameters of every site; to be
  sampled by `scan`, also `blocks`, `init_carry`, `begin_block` and `step`; by
  `block_fixed_point`, also `block` (`AutoregressiveModel`);
* a model with a code has `decode(codes, labels)`, `num_latents`, `has_real_codes` and a `prior`,
  which may be None, and perhaps `encode` (`LatentModel`); with an encoder and a prior also an
  `estimator`, of the encoder's gradient; if the prior has parameters, `prior_sample`,
  `prior_log_prob` and `kl`.

`ImageModel` and its subclasses are bases with all of this, and with checks; nothing asks for them.
"""

import dataclasses
from typing import (
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    NoReturn,
    Protocol,
    TypeGuard,
    cast,
    runtime_checkable,
)

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import checks
from gen_jax.layers.convolution import param_dtype
from gen_jax.likelihoods import Likelihood
from gen_jax.typing import Array, Dtype, Float, Key, Labels, Levels, Variables

_NEXT_SITE = ("blocks", "init_carry", "begin_block", "step")


@runtime_checkable
class Model(Protocol):
    """A Flax module that says what its images are and what its output means."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        ...

    @property
    def likelihood(self) -> Likelihood:
        """p(pixel | parameters)."""
        ...

    def init(self, rngs: Key | dict[str, Key], *args: Any, **kwargs: Any) -> Any:
        """New variables, from a key, images and labels."""
        ...

    def apply(self, variables: Variables, *args: Any, **kwargs: Any) -> Any:
        """What `__call__`, or the method named, gives with these variables."""
        ...


@runtime_checkable
class CodeModel(Model, Protocol):
    """A model whose images come from a code: an auto-encoder."""

    @property
    def num_latents(self) -> int:
        """Latents of a code."""
        ...

    @property
    def prior(self) -> object:
        """The distribution of codes; None if they have none."""
        ...

    @property
    def has_real_codes(self) -> bool:
        """Whether codes are real numbers, and no bits."""
        ...


@runtime_checkable
class PosteriorModel(CodeModel, Protocol):
    """A variational auto-encoder: its encoder gives a distribution over codes."""

    @property
    def estimator(self) -> Literal["reparametrized", "score_function"]:
        """Of the encoder's gradient, by default: see `gen_jax.objectives.elbo_terms`."""
        ...


@runtime_checkable
class BlockModel(Model, Protocol):
    """A model that says in which order it generates, block after block."""

    def blocks(self) -> np.ndarray:
        """Site ids in generation order, int `[blocks, steps, sites]`; −1 pads."""
        ...


class Traits(NamedTuple):
    """What follows from a model's fields."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    likelihood: Likelihood
    """p(pixel | parameters); it decides the sites of a pixel."""
    num_classes: int | None
    """None for an unconditional model."""
    dtype: Dtype
    """Type of the computation."""
    real_dtype: Dtype
    """Type of likelihoods and noise: that of the parameters, so at least float32."""
    sites: int
    """Sites of a pixel, S."""
    values_per_site: int
    """Levels of a site, V."""
    params_per_site: int
    """Parameters of a site, P."""


def traits(model: object) -> Traits:
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


def unbound(model: Model) -> Model:
    """The model without variables of its own: Flax refuses the hash of one that is bound."""
    module = cast(nn.Module, model)
    return model if module.scope is None else cast(Model, module.clone())


def takes_labels(model: object) -> bool:
    """Whether it is conditional on classes."""
    return getattr(model, "num_classes", None) is not None


def has_code(model: object) -> TypeGuard[CodeModel]:
    """Whether images come from a code: then all sites are drawn at once, given it."""
    return hasattr(type(model), "decode")


def has_encoder(model: object) -> TypeGuard[CodeModel]:
    """Whether an image's code comes from a network; else it is searched for, by inversion."""
    return has_code(model) and hasattr(type(model), "encode")


def has_posterior(model: object) -> TypeGuard[PosteriorModel]:
    """Whether it is a variational auto-encoder: an encoder, and a prior over codes."""
    return has_encoder(model) and getattr(model, "prior", None) is not None


def encoded(
    model: Model, variables: Variables, images: Levels | np.ndarray, labels: Labels | None = None
) -> Float[Array, "B Z"]:
    """The code of each image that the encoder gives: of a distribution q(z | x) its mode."""
    codes = model.apply(variables, images, labels, method="encode")
    return codes.mode() if has_posterior(model) else codes


def apply_prior(
    model: CodeModel, variables: Variables, method: Literal["sample", "log_prob", "kl"], *args: Any
) -> Any:
    """A method of the model's prior (`models.Prior`), by that of the model if it has one."""
    name = method if method == "kl" else f"prior_{method}"
    if hasattr(type(model), name):
        return model.apply(variables, *args, method=name)
    return getattr(model.prior, method)(*args)


def has_blocks(model: object) -> TypeGuard[BlockModel]:
    """Whether it says in which order it generates."""
    return hasattr(type(model), "blocks")


def num_phases(model: Model) -> int:
    """How many kinds of blocks take turns (`AutoregressiveModel`): one unless it says so."""
    return getattr(model, "phases", 1)


def has_next_site_view(model: Model) -> bool:
    """Whether `scan` can sample it."""
    methods = [getattr(type(model), name, None) for name in _NEXT_SITE]
    # Those that a base only names are none.
    return all(x is not None and not getattr(x, "__isabstractmethod__", False) for x in methods)


def has_block_view(model: Model) -> bool:
    """Whether all sites of a block can be given at once (`AutoregressiveModel`)."""
    return has_next_site_view(model) and hasattr(type(model), "block")


def accelerator_form(model: BlockModel) -> BlockModel:
    """The same model in the form in which an accelerator samples it, if it says one.

    `for_accelerator()` gives a module with the same parameters, whose steps are others.
    """
    other = getattr(type(model), "for_accelerator", None)
    return model if other is None else other(model)


def refuse(model: object, accepted: str) -> NoReturn:
    """Raises the ValueError of a model of the wrong kind."""
    raise ValueError(f"model is {type(model).__name__}; accepted: {accepted}")


def with_code(model: object) -> CodeModel:
    """The model, if its images come from a code. ValueError for another, TypeError for one that
    does not say of which kind its codes are."""
    if not has_code(model):
        refuse(model, "an auto-encoder")
    _check_says(model, "num_latents", "has_real_codes", "prior")
    return model


def with_posterior(model: object) -> PosteriorModel:
    """The model, if it is a variational auto-encoder. ValueError and TypeError as `with_code`."""
    if not has_posterior(model):
        refuse(model, "a VAE")
    _check_says(model, "num_latents", "has_real_codes", "prior", "estimator")
    return model


def _check_says(model: object, *names: str) -> None:
    for name in names:
        if not hasattr(model, name):
            raise TypeError(
                f"{type(model).__name__} has no {name}; accepted: a module with one, such as a "
                "models.LatentModel"
            )


def check_inputs(model: Model, images: object, labels: object) -> tuple[Levels, Labels | None]:
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


def check_dtype(model: Model) -> None:
    """ValueError if JAX would compute in float32 where the model asks for float64."""
    if traits(model).dtype == "float64" and not has_float64():
        raise ValueError(
            "dtype is 'float64'; accepted, without jax_enable_x64: 'float32', 'bfloat16'"
        )


def has_float64() -> bool:
    """Whether jax_enable_x64 is set."""
    return jax.dtypes.canonicalize_dtype("float64") == jnp.float64
