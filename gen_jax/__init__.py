"""Likelihood-based generative image models in JAX: trained, scored and sampled fast."""

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING, Literal, TypeVar, overload

from gen_jax import likelihoods, models, objectives, sampling
from gen_jax._version import __version__
from gen_jax.models.shared.protocol import Model
from gen_jax.typing import Variables

if TYPE_CHECKING:
    from gen_jax import codec, data, figures, inversion, pretrained, training

ModelT = TypeVar("ModelT", bound=Model)

# What these import is heavy: not before it is needed.
_LAZY = ("codec", "data", "figures", "inversion", "pretrained", "training")

__all__ = [
    "__version__",
    "codec",
    "data",
    "figures",
    "inversion",
    "likelihoods",
    "load",
    "models",
    "objectives",
    "pretrained",
    "sampling",
    "training",
]


@overload
def load(
    workdir: str | os.PathLike[str], step: int | Literal["best", "last"] = "best"
) -> tuple[models.ImageModel, Variables]: ...


@overload
def load(
    workdir: str | os.PathLike[str],
    step: int | Literal["best", "last"] = "best",
    *,
    model: ModelT,
) -> tuple[ModelT, Variables]: ...


def load(
    workdir: str | os.PathLike[str],
    step: int | Literal["best", "last"] = "best",
    *,
    model: Model | None = None,
) -> tuple[Model, Variables]:
    """A trained model, `(model, variables)`: the EMA of its parameters at a step, for any code.

    `workdir` is the folder of a run or, where there is no such folder, the name of a model that
    comes with the library (`gen_jax.pretrained.names`). `step` is "best" by validation, "last", or
    the number of one that was kept. A model of a class of one's own is given as `model`, equal to
    the one that was trained.
    ValueError if there is no such run, name or step, or it is damaged; NonFiniteError if a
    parameter is not finite.
    """
    from gen_jax import pretrained

    if pretrained.is_shipped(workdir):
        return pretrained.load(os.fspath(workdir), step=step, model=model)

    from gen_jax.training import checkpoints

    return checkpoints.load(workdir, step, model=model)


def __getattr__(name: str) -> ModuleType:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
