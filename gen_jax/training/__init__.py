"""Training: pure steps, one mesh, checkpoints that resume bit-identical."""

from gen_jax.training.checkpoints import Checkpoints, complete_steps, load, resolve_step
from gen_jax.training.devices import evaluate, initialize_distributed, make_mesh
from gen_jax.training.loop import TrainConfig, TrainResult, train
from gen_jax.training.records import read_metrics
from gen_jax.training.state import (
    NonFiniteError,
    OptimizerConfig,
    TrainState,
    init_state,
    make_optimizer,
    make_schedule,
)
from gen_jax.training.step import (
    Evaluation,
    Objective,
    eval_step,
    log_likelihood,
    log_likelihood_without_dropout,
    train_step,
)
from gen_jax.training.workdir import Workdir

__all__ = [
    "Checkpoints",
    "Evaluation",
    "NonFiniteError",
    "Objective",
    "OptimizerConfig",
    "TrainConfig",
    "TrainResult",
    "TrainState",
    "Workdir",
    "complete_steps",
    "eval_step",
    "evaluate",
    "init_state",
    "initialize_distributed",
    "load",
    "log_likelihood",
    "log_likelihood_without_dropout",
    "make_mesh",
    "make_optimizer",
    "make_schedule",
    "read_metrics",
    "resolve_step",
    "train",
    "train_step",
]
