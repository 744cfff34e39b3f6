"""What training carries from step to step, and how one gradient changes it."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from gen_jax import checks
from gen_jax.checks import NonFiniteError as NonFiniteError
from gen_jax.checks import all_finite as all_finite
from gen_jax.models.shared.protocol import Model, takes_labels
from gen_jax.reprs import brief
from gen_jax.typing import Array, Float, Key, Leaf, Levels, PyTree
from gen_jax.typing import Batch as Batch

Tree: TypeAlias = PyTree
# What more a model must be is its objective's to say.
Module: TypeAlias = nn.Module | Model
Optimizer: TypeAlias = optax.GradientTransformation
Schedule: TypeAlias = Literal["cosine", "constant", "exponential", "inverse_sqrt", "stages"]

_RUNNING_DECAY = 0.99


@struct.dataclass
class TrainState:
    """Everything a step needs and returns; a pytree, the same on every device."""

    step: Leaf
    """Updates made so far, int32."""
    params: Tree
    """The parameters that the gradient is taken at."""
    ema: Tree
    """Their exponential moving average: what is evaluated, sampled from and loaded."""
    opt_state: Tree
    """The optimiser's own state."""
    running_nats: Leaf
    """Running mean of the objective in nats an image: a baseline for score functions."""

    __repr__ = brief


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW under a learning-rate schedule, with clipping, and an EMA of the parameters."""

    learning_rate: float = 1e-3
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """Shape after the warm-up. exponential: times `decay_rate` a step, from the first one on.
    inverse_sqrt decays as sqrt(warmup_steps / step).
    stages: those of Burda et al. 2016, 10^(−i/7) of the peak for 3^i parts of 3280, i = 0 … 7."""
    warmup_steps: int = 100
    """Steps of linear growth from 0 to the peak."""
    final_fraction: float = 0.01
    """Where the cosine ends, as a fraction of the peak."""
    decay_rate: float = 0.999995
    """What exponential multiplies the learning rate by at each step."""
    weight_decay: float = 0.0
    """Decoupled weight decay, on arrays of two or more axes (not on biases or scales)."""
    b1: float = 0.9
    """Decay of the gradient's first moment."""
    b2: float = 0.999
    """Decay of the gradient's second moment."""
    eps: float = 1e-8
    """Added to the root of the second moment.
    The gradient is that of bits/dim: an eps for nats is to be divided by ln 2 · H · W · C."""
    eps_root: float = 0.0
    """Added to the second moment inside the root.
    A value for nats is to be divided by the square of ln 2 · H · W · C."""
    clip_norm: float | None = 1.0
    """Largest global norm of the gradient of the loss in bits/dim; None for no clipping."""
    ema_decay: float = 0.999
    """Decay of the EMA of the parameters; 0 keeps the parameters themselves."""

    def __post_init__(self) -> None:
        _check(self)


@contextlib.contextmanager
def _standard_promotion() -> Iterator[None]:
    """optax mixes int32 counts, float32 moments and Python floats: Adam, the schedules and
    the EMA all raise under strict dtype promotion. This is the one place that lifts it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def make_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """The learning rate as a function of the step.

    Raises ValueError if a field of `config` is out of range.
    """
    _check(config)  # as a type checker would not let by
    checks.whole("steps", num_steps, 1)
    peak, warmup = config.learning_rate, config.warmup_steps
    after = _SCHEDULES[config.schedule](config, num_steps)
    joined = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])
    # Counting from 1: a schedule that starts at 0 would make the first update empty.
    schedule = (lambda count: joined(count + 1)) if warmup else after

    def learning_rate(count):
        with _standard_promotion():
            return jnp.asarray(schedule(count), jnp.float32)

    return learning_rate


def make_optimizer(config: OptimizerConfig, num_steps: int) -> Optimizer:
    """Global-norm clipping, then AdamW under the schedule.

    The tree of its state is the same for every config, so a run may go on with another one.
    Raises ValueError if a field of `config` is out of range.
    """
    clip = config.clip_norm
    return optax.chain(
        optax.identity() if clip is None else optax.clip_by_global_norm(clip),
        optax.adamw(
            make_schedule(config, num_steps),
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            eps_root=config.eps_root,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )


def init_params(model: Module, key: Key, examples: Levels | None = None) -> Tree:
    """New parameters of `model`.

    `examples` are images that a data-dependent initialisation looks at; None: one of zeros.
    ValueError for a model with variables that are no parameters, which no run would keep.
    """
    images = jnp.zeros((1, *model.image_shape), jnp.uint8) if examples is None else examples
    labels = (jnp.zeros((len(images),), jnp.int32),) if takes_labels(model) else ()
    rngs: Key | dict[str, Key] = key
    if getattr(model, "needs_examples", False):
        # What it looks at are outputs as in training, so with dropout.
        rngs = {"params": key, "dropout": jax.random.fold_in(key, 0)}
    variables = model.init(rngs, images, *labels)
    if others := sorted(set(variables) - {"params"}):
        raise ValueError(
            f"variables of {type(model).__name__} has {others}; accepted: params alone"
        )
    return variables["params"]


def init_state(
    model: Module, optimizer: Optimizer, key: Key, examples: Levels | None = None
) -> TrainState:
    """A state at step 0; the EMA starts at the parameters."""
    params = init_params(model, key, examples)
    with _standard_promotion():
        opt_state = optimizer.init(params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=jax.tree.map(jnp.copy, params),
        opt_state=opt_state,
        running_nats=jnp.zeros((), jnp.float32),
    )


def apply_gradients(
    state: TrainState,
    grads: Tree,
    nats: Float[Array, ""],
    optimizer: Optimizer,
    ema_decay: float,
) -> tuple[TrainState, Float[Array, ""]]:
    """The next state, and the global norm of `grads` before clipping.

    `nats` is the mean of the objective over the batch, of which the state keeps a running mean.

    The EMA after t updates decays by min(ema_decay, (1 + t) / (10 + t)): over the first steps
    it follows the parameters closely, so that the initialisation is soon forgotten, and later
    its window is the one asked for.
    """
    step = state.step + 1
    t = step.astype(jnp.float32)
    decay = jnp.minimum(ema_decay, (1 + t) / (10 + t))
    weight = 1 - jnp.minimum(_RUNNING_DECAY, 1 - 1 / t)  # the plain mean of the first steps
    running = state.running_nats + weight * (nats.astype(jnp.float32) - state.running_nats)
    with _standard_promotion():
        norm = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = optax.incremental_update(params, state.ema, 1 - decay)
    # float64 parameters must stay float64, float32 ones float32.
    params = jax.tree.map(lambda new, old: new.astype(old.dtype), params, state.params)
    ema = jax.tree.map(lambda new, old: new.astype(old.dtype), ema, state.ema)
    return TrainState(step, params, ema, opt_state, running), norm


def not_finite(tree: Tree) -> str | None:
    """The name of the first leaf of `tree` that holds an infinity or NaN; None if none does."""
    if all_finite(tree):
        return None
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not all_finite(leaf):
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return None


def _cosine(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    decay_steps = max(num_steps - config.warmup_steps, 1)
    return optax.cosine_decay_schedule(
        config.learning_rate, decay_steps, alpha=config.final_fraction
    )


def _constant(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    return optax.constant_schedule(config.learning_rate)


def _exponential(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    # By its logarithm: in float32 the rate itself is off by 1 % after 500,000 steps.
    log_rate = math.log(config.decay_rate)
    return lambda count: (
        config.learning_rate * jnp.exp((jnp.asarray(count, jnp.float32) + 1) * log_rate)
    )


def _inverse_sqrt(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    peak, offset = config.learning_rate, max(config.warmup_steps, 1)
    return lambda count: peak * jnp.sqrt(offset / (offset + jnp.asarray(count, jnp.float32)))


def _stages(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Burda et al. 2016, section 5: 1 + 3 + … + 3^7 = 3280 parts."""
    steps = num_steps - config.warmup_steps
    ends = [round(steps * (3**i - 1) / 2 / 3280) for i in range(1, 8)]
    rates = [optax.constant_schedule(config.learning_rate * 10 ** (-i / 7)) for i in range(8)]
    return optax.join_schedules(rates, ends)


# What follows the warm-up.
_SCHEDULES: Mapping[str, Callable[[OptimizerConfig, int], optax.Schedule]] = {
    "cosine": _cosine,
    "constant": _constant,
    "exponential": _exponential,
    "inverse_sqrt": _inverse_sqrt,
    "stages": _stages,
}


def _check(config: OptimizerConfig) -> None:
    checks.whole("warmup_steps", config.warmup_steps, 0)
    checks.choice("schedule", config.schedule, Schedule)
    for name in ("learning_rate", "clip_norm"):
        if name != "clip_norm" or config.clip_norm is not None:
            checks.real(name, getattr(config, name), 0, above=True)
    for name in ("b1", "b2", "ema_decay"):
        checks.real(name, getattr(config, name), 0, 1)
    checks.real("weight_decay", config.weight_decay, 0)
    checks.real("eps_root", config.eps_root, 0)
    # Of the two one must keep a gradient of zeros from being divided by zero.
    checks.real("eps", config.eps, 0, above=config.eps_root == 0)
    if checks.real("decay_rate", config.decay_rate, 0, above=True) > 1:
        raise ValueError(f"decay_rate is {config.decay_rate}; accepted: numbers in (0, 1]")
    if checks.real("final_fraction", config.final_fraction, 0) > 1:
        raise ValueError(f"final_fraction is {config.final_fraction}; accepted: numbers in [0, 1]")
