"""The presets of `gen_jax train`."""

from gen_jax.scripts.presets import PRESETS, Experiment, find

__all__ = ["PRESETS", "Experiment", "find"]
