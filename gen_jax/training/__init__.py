"""Training: pure steps, one mesh, checkpoints that resume bit-identical."""

from gen_jax.training.checkpoints import (
    Checkpoints,
    DamagedWarning,
    complete_steps,
    load,
    load_step,
    resolve_step,
)
from gen_jax.training.devices import initialize_distributed, make_mesh
from gen_jax.training.evaluation import Evaluation, Scores, eval_step, evaluate, score
from gen_jax.training.loop import TrainResult, train
from gen_jax.training.objective import (
    ELBO,
    IWAE,
    LOG_LIKELIHOOD,
    TARGETS,
    Inverted,
    LearnedCodes,
    LogLikelihood,
    Objective,
    Reconstruction,
    Target,
    target_from_dict,
    target_to_dict,
)
from gen_jax.training.records import read_metrics
from gen_jax.training.settings import TrainConfig
from gen_jax.training.state import (
    NonFiniteError,
    OptimizerConfig,
    TrainState,
    init_state,
    make_optimizer,
    make_schedule,
)
from gen_jax.training.step import train_step
from gen_jax.training.workdir import Workdir

__all__ = [
    "ELBO",
    "IWAE",
    "LOG_LIKELIHOOD",
    "TARGETS",
    "Checkpoints",
    "DamagedWarning",
    "Evaluation",
    "Inverted",
    "LearnedCodes",
    "LogLikelihood",
    "NonFiniteError",
    "Objective",
    "OptimizerConfig",
    "Reconstruction",
    "Scores",
    "Target",
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
    "load_step",
    "make_mesh",
    "make_optimizer",
    "make_schedule",
    "read_metrics",
    "resolve_step",
    "score",
    "target_from_dict",
    "target_to_dict",
    "train",
    "train_step",
]
