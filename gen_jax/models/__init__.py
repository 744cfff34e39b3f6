"""The models, and their form in JSON."""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import flax.linen as nn

from gen_jax import checks
from gen_jax.likelihoods import LIKELIHOODS
from gen_jax.models.autoencoder import AutoEncoder, ImplicitAutoEncoder
from gen_jax.models.diagonal_bilstm import DiagonalBiLSTM
from gen_jax.models.gated_pixel_cnn import GatedPixelCNN
from gen_jax.models.image_transformer import ImageTransformer
from gen_jax.models.pixel_cnn import PixelCNN
from gen_jax.models.pixel_cnn_pp import PixelCNNPlusPlus
from gen_jax.models.row_lstm import RowLSTM
from gen_jax.models.shared.autoregressive import AutoregressiveModel
from gen_jax.models.shared.codes import (
    DiagonalGaussian,
    FairCoins,
    IndependentBernoulli,
    Posterior,
    Prior,
    StandardNormal,
)
from gen_jax.models.shared.image_model import ImageModel
from gen_jax.models.shared.latent import LatentModel
from gen_jax.models.shared.protocol import Model
from gen_jax.models.vae import VAE
from gen_jax.typing import Json

T = TypeVar("T")
MODELS: Mapping[str, type[ImageModel]] = {
    "PixelCNN": PixelCNN,
    "GatedPixelCNN": GatedPixelCNN,
    "PixelCNNPlusPlus": PixelCNNPlusPlus,
    "RowLSTM": RowLSTM,
    "DiagonalBiLSTM": DiagonalBiLSTM,
    "ImageTransformer": ImageTransformer,
    "AutoEncoder": AutoEncoder,
    "ImplicitAutoEncoder": ImplicitAutoEncoder,
    "VAE": VAE,
}
"""The models of this library by name, as run.json writes them."""

__all__ = [
    "MODELS",
    "VAE",
    "AutoEncoder",
    "AutoregressiveModel",
    "DiagonalBiLSTM",
    "DiagonalGaussian",
    "FairCoins",
    "GatedPixelCNN",
    "ImageModel",
    "ImageTransformer",
    "ImplicitAutoEncoder",
    "IndependentBernoulli",
    "LatentModel",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "Posterior",
    "Prior",
    "RowLSTM",
    "StandardNormal",
    "from_dict",
    "to_dict",
]


def to_dict(model: nn.Module | Model) -> Json:
    """A model as JSON: `{"model": name, …fields, "likelihood": {"name": name, …fields}}`.

    A class of this library has a short name; any other its module and qualified name.
    """
    fields: Json = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.init and field.name not in ("parent", "name")
    }
    likelihood = fields.get("likelihood")
    plain = {name: _plain(value) for name, value in fields.items() if name != "likelihood"}
    if likelihood is not None:
        plain["likelihood"] = {"name": _name(likelihood, LIKELIHOODS), **_fields(likelihood)}
    return {"model": _name(model, MODELS), **plain}


def from_dict(config: Json) -> ImageModel:
    """The model that `to_dict` wrote.

    ValueError for an unknown field, and for a class that is not of this library: nothing else is
    ever imported by its name.
    """
    fields = dict(config)
    model = _look_up(MODELS, fields.pop("model", None), "model")
    likelihood = fields.pop("likelihood", {})
    if not isinstance(likelihood, Mapping):
        raise ValueError(f"likelihood is {likelihood!r}; accepted: what to_dict gives")
    likelihood = dict(likelihood)
    likelihood_type = _look_up(LIKELIHOODS, likelihood.pop("name", None), "likelihood")
    fields: Json = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return model(likelihood=likelihood_type(**likelihood), **fields)
    except TypeError as error:
        raise ValueError(f"not a {model.__name__}: {error}") from error


def _look_up(table: Mapping[str, type[T]], name: object, kind: str) -> type[T]:
    others = "one of another package, given as model=…" if "." in str(name) else ""
    return table[checks.choice(kind, name, table, also=others)]


def _name(thing: object, table: Mapping[str, type]) -> str:
    kind = type(thing)
    if table.get(kind.__name__) is kind:
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"


def _fields(thing: object) -> Json:
    """The fields of a dataclass, as JSON; of anything else what it says of itself."""
    if not dataclasses.is_dataclass(thing):
        return {"repr": repr(thing)}
    return {f.name: _plain(getattr(thing, f.name)) for f in dataclasses.fields(thing)}


def _plain(value: object) -> object:
    """A field as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(x) for x in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(x) for key, x in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"name": _name(value, {}), **_fields(value)}
    name = getattr(value, "__qualname__", None)  # of a function or a class, such as an activation
    return repr(value) if name is None else f"{value.__module__}.{name}"
