"""Data sets as integer levels in memory, and the order in which training sees them.

A set is decoded once (`load`), and `train_iterator` and `eval_batches` go through it.
"""

from gen_jax.data.batches import EvalBatches, eval_batches, train_iterator
from gen_jax.data.config import DataConfig, DataWarning, augmentation, to_dict
from gen_jax.data.datasets import Dataset, Split, load, load_whole, resolved
from gen_jax.data.sources.tfds import prepare

__all__ = [
    "DataConfig",
    "DataWarning",
    "Dataset",
    "EvalBatches",
    "Split",
    "augmentation",
    "eval_batches",
    "load",
    "load_whole",
    "prepare",
    "resolved",
    "to_dict",
    "train_iterator",
]
