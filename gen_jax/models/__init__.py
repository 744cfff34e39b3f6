"""The models, and their form in JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from gen_jax.likelihoods import LIKELIHOODS
from gen_jax.models.autoencoder import AutoEncoder, ImplicitAutoEncoder
from gen_jax.models.autoregressive import AutoregressiveModel
from gen_jax.models.diagonal_bilstm import DiagonalBiLSTM
from gen_jax.models.gated_pixel_cnn import GatedPixelCNN
from gen_jax.models.image_model import ImageModel
from gen_jax.models.image_transformer import ImageTransformer
from gen_jax.models.latent import DiagonalGaussian, IndependentBernoulli, LatentModel
from gen_jax.models.pixel_cnn import PixelCNN
from gen_jax.models.row_lstm import RowLSTM
from gen_jax.models.vae import VAE

MODELS: Mapping[str, type[nn.Module]] = {
    "PixelCNN": PixelCNN,
    "GatedPixelCNN": GatedPixelCNN,
    "RowLSTM": RowLSTM,
    "DiagonalBiLSTM": DiagonalBiLSTM,
    "ImageTransformer": ImageTransformer,
    "AutoEncoder": AutoEncoder,
    "ImplicitAutoEncoder": ImplicitAutoEncoder,
    "VAE": VAE,
}

__all__ = [
    "MODELS",
    "VAE",
    "AutoEncoder",
    "AutoregressiveModel",
    "DiagonalBiLSTM",
    "DiagonalGaussian",
    "GatedPixelCNN",
    "ImageModel",
    "ImageTransformer",
    "ImplicitAutoEncoder",
    "IndependentBernoulli",
    "LatentModel",
    "PixelCNN",
    "RowLSTM",
    "from_dict",
    "to_dict",
]


def to_dict(model: nn.Module) -> dict[str, Any]:
    """A model as JSON: `{"model": name, …fields, "likelihood": {"name": name, …fields}}`."""
    name = type(model).__name__
    if MODELS.get(name) is not type(model):
        raise ValueError(f"model {name} is not in gen_jax.models.MODELS: {', '.join(MODELS)}")
    result: dict[str, Any] = {"model": name}
    for field in dataclasses.fields(model):
        if field.name not in ("parent", "name"):
            value = getattr(model, field.name)
            if field.name == "likelihood":
                value = {"name": type(value).__name__, **dataclasses.asdict(value)}
            result[field.name] = list(value) if isinstance(value, tuple) else value
    return result


def from_dict(config: Mapping[str, Any]) -> nn.Module:
    """The model that `to_dict` wrote. ValueError for an unknown name or field."""
    fields = dict(config)
    model = _look_up(MODELS, fields.pop("model", None), "model")
    likelihood = fields.pop("likelihood", {})
    if not isinstance(likelihood, Mapping):
        raise ValueError(f"likelihood is {likelihood!r}; accepted: what to_dict gives")
    likelihood = dict(likelihood)
    likelihood_type = _look_up(LIKELIHOODS, likelihood.pop("name", None), "likelihood")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return model(likelihood=likelihood_type(**likelihood), **fields)
    except TypeError as error:
        raise ValueError(f"not a {model.__name__}: {error}") from error


def _look_up(table: Mapping[str, type], name: Any, kind: str) -> type:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(table)}")
    return table[name]
