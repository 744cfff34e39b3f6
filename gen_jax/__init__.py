"""Likelihood-based generative image models in JAX: trained, scored and sampled fast."""

from typing import Any

from gen_jax import likelihoods, models, objectives, sampling

from gen_jax._version import __version__

__all__ = ["__version__", "likelihoods", "load", "models", "objectives", "sampling"]


def load(workdir: str, step: Any = "best") -> Any:
    """A trained model: `(model, variables)`, the best step's EMA. ValueError if there is none."""
    from gen_jax.training import checkpoints  # orbax: not before it is needed

    return checkpoints.load(workdir, step)
