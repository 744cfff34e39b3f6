"""The settings of a run's training."""

import dataclasses

from gen_jax import checks
from gen_jax.precision import Precision
from gen_jax.training.state import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long a run trains, on how much at once, and how often it says and saves something."""

    steps: int = 10_000
    """Updates in all."""
    batch_size: int = 64
    """Images in an update, over all devices."""
    accumulate: int = 1
    """Micro-batches that an update is split into, one after another, to take less memory."""
    seed: int = 0
    """Seed of the initialisation, of the order of the images, of dropout and of other noise."""
    eval_every: int = 500
    """Steps between validations; each also writes a checkpoint."""
    eval_batch_size: int = 256
    """Images in a batch of validation; the command rounds up to a multiple of the devices."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl."""
    sample_every: int = 0
    """Steps between sample grids; 0 for none."""
    keep: int = 2
    """How many of the last checkpoints are kept, beside the best by validation."""
    precision: Precision = "default"
    """How exactly a GPU or TPU multiplies matrices in training; on a CPU both are the same.
    default: as JAX does, which is faster. highest: with all digits of float32, as validation."""
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    """Optimiser, learning rate and EMA."""

    def __post_init__(self) -> None:
        least = dict.fromkeys(("steps", "batch_size", "accumulate", "eval_every"), 1)
        least |= {"eval_batch_size": 1, "log_every": 1, "keep": 1, "sample_every": 0}
        for name, value in least.items():
            checks.whole(name, getattr(self, name), value)
        checks.choice("precision", self.precision, Precision)
        checks.whole("seed", self.seed, 0, 2**63 - 1)
