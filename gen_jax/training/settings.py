"""The settings of a run's training."""

import dataclasses

from gen_jax import checks
from gen_jax.training.state import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long, how large, how often."""

    steps: int = 10_000
    """Updates in all."""
    batch_size: int = 64
    """Images an update, over all devices."""
    accumulate: int = 1
    """Micro-batches that an update is computed in, one after another."""
    seed: int = 0
    """Of the initialisation, the dropout and the noise."""
    eval_every: int = 500
    """Steps between validations; each also writes a checkpoint."""
    eval_batch_size: int = 256
    """Images a batch of validation, rounded up to a multiple of the devices by the script."""
    log_every: int = 50
    """Steps between lines of metrics."""
    sample_every: int = 0
    """Steps between sample grids; 0 for none."""
    keep: int = 2
    """Last checkpoints kept, beside the best."""
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        least = dict.fromkeys(("steps", "batch_size", "accumulate", "eval_every"), 1)
        least |= {"eval_batch_size": 1, "log_every": 1, "keep": 1, "sample_every": 0}
        for name, value in least.items():
            checks.whole(name, getattr(self, name), value)
        checks.whole("seed", self.seed, 0, 2**63 - 1)
