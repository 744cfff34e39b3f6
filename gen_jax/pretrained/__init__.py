"""Trained models that come with the library: weights and cards, read without any network.

Of each there are two files: NAME.safetensors, the parameters in half precision, and NAME.json,
its card. `gen_jax publish` writes them from a run.
"""

from gen_jax.pretrained.cards import Card, Rounding, Score, Selection, SelfCheck
from gen_jax.pretrained.self_check import IMAGES, fixed_images, fixed_measure, fixed_scores
from gen_jax.pretrained.shipped import FOLDER, card, is_shipped, load, names, path_of, suggestion

__all__ = [
    "FOLDER",
    "IMAGES",
    "Card",
    "Rounding",
    "Score",
    "Selection",
    "SelfCheck",
    "card",
    "fixed_images",
    "fixed_measure",
    "fixed_scores",
    "is_shipped",
    "load",
    "names",
    "path_of",
    "suggestion",
]
