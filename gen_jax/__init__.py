"""Likelihood-based generative image models in JAX: trained, scored and sampled fast."""

import os
from typing import Any, Literal

from gen_jax import likelihoods, models, objectives, sampling
from gen_jax._version import __version__

__all__ = ["__version__", "likelihoods", "load", "models", "objectives", "sampling"]


def load(
    workdir: str | os.PathLike[str], step: int | Literal["best", "last"] = "best"
) -> tuple[Any, Any]:
    """A trained model: `(model, variables)`, the best step's EMA. ValueError if there is none."""
    from gen_jax.training import checkpoints  # orbax: not before it is needed

    return checkpoints.load(workdir, step)
