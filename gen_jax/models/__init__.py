"""The models, and their form in JSON."""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import flax.linen as nn

from gen_jax import checks, described
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
    names = [field.name for field in dataclasses.fields(model) if field.init]
    settings = {
        name: described.plain(getattr(model, name))
        for name in names
        if name not in ("parent", "name", "likelihood")
    }
    likelihood = getattr(model, "likelihood", None)
    if "likelihood" in names and likelihood is not None:
        name = described.class_name(likelihood, LIKELIHOODS)
        settings["likelihood"] = {"name": name, **described.fields(likelihood)}
    return {"model": described.class_name(model, MODELS), **settings}


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
    built = described.built(likelihood_type, likelihood)
    return described.built(model, {"likelihood": built, **fields})


def _look_up(table: Mapping[str, type[T]], name: object, kind: str) -> type[T]:
    others = "one of another package, given as model=…" if "." in str(name) else ""
    return table[checks.choice(kind, name, table, also=others)]
