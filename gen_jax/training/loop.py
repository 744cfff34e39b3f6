"""Training from a model, batches and a config to a folder that holds the trained model."""

import contextlib
import dataclasses
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import flax
import jax
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from rich.console import Console

from gen_jax import meshes, models
from gen_jax.training import devices
from gen_jax.training.checkpoints import Checkpoints
from gen_jax.training.objective import LOG_LIKELIHOOD, Objective, Target, target_to_dict
from gen_jax.training.records import Records
from gen_jax.training.state import Batch, NonFiniteError, OptimizerConfig, TrainState, Tree
from gen_jax.training.workdir import Workdir
from gen_jax.typing import Levels

OnSample: TypeAlias = Callable[[int, dict[str, Tree]], None]


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
        for name in ("steps", "batch_size", "accumulate", "eval_every", "eval_batch_size"):
            _at_least(1, name, getattr(self, name))
        _at_least(1, "log_every", self.log_every)
        _at_least(1, "keep", self.keep)
        _at_least(0, "sample_every", self.sample_every)


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How a run ended; `gen_jax.load(workdir)` gives the model."""

    step: int
    """Updates made."""
    finished: bool
    """False if a signal stopped it: the same command goes on from `step`."""
    best_step: int | None
    """The step with the lowest validation loss, whose checkpoint is kept."""
    best_bits_per_dim: float | None
    """Its validation loss."""


def train(
    model: nn.Module,
    batches: Any,
    evaluation: Callable[[], Iterable[Batch]],
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    *,
    data: Mapping[str, Any],
    objective: Objective = LOG_LIKELIHOOD,
    eval_objective: Objective | None = None,
    examples: Levels | None = None,
    on_sample: OnSample | None = None,
    mesh: Mesh | None = None,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> TrainResult:
    """Trains to the end, or goes on where the same run stopped, in `workdir`.

    `batches` is a Grain iterator at its start, giving {"images", "labels"?} without end;
    `evaluation` gives the batches of the validation split, with a mask, anew at each call;
    `data` describes both (JSON-able, with a fingerprint): a run goes on with the same data
    only. Every `eval_every` steps the EMA is evaluated with `eval_objective` (None: what
    `objective` says of itself) on the whole split and a checkpoint is written. `examples` are
    training images that a data-dependent initialisation looks at. `on_sample(step, variables)`
    is called every `sample_every` steps with the EMA, which is valid during the call only.

    A workdir of another run is a ValueError, unless `overwrite`, which deletes that run, or
    `resume` where steps, optimiser or accumulation alone differ. SIGTERM and Ctrl-C save and
    return; a second one kills. A loss that is not finite raises NonFiniteError.
    """
    mesh = devices.make_mesh() if mesh is None else meshes.data_mesh(mesh)
    console = Console() if console is None else console
    devices.check_batch_size(config.batch_size, mesh, config.accumulate)
    if isinstance(objective, Target):
        objective.check(model)
    if eval_objective is None:
        eval_objective = objective.evaluation if isinstance(objective, Target) else objective
    step_function = devices.compile_train_step(
        mesh,
        model=model,
        objective=objective,
        optimizer=config.optimizer,
        num_steps=config.steps,
        accumulate=config.accumulate,
    )
    folder = Workdir(workdir)
    folder.claim(_record(model, objective, data, config), resume=resume, overwrite=overwrite)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("the folder is claimed")

    def say(message: str) -> None:
        if jax.process_index() == 0:
            console.print(message, highlight=False, markup=False, soft_wrap=True)

    with contextlib.ExitStack() as stack:
        stack.enter_context(meshes.in_force(mesh))
        init_key, train_key, eval_key = jax.random.split(jax.random.key(config.seed), 3)
        checkpoints = stack.enter_context(Checkpoints(folder, config.keep, say))
        abstract = devices.abstract_state(model, config.optimizer, config.steps, mesh)
        state = checkpoints.restore(abstract, batches)
        if state is None:
            state = devices.create_state(
                model, config.optimizer, config.steps, init_key, mesh, examples
            )
            step = 0
        else:
            step = int(state.step)
            ended = "is finished at" if step >= config.steps else "goes on from"
            say(f"the run in {folder.path} {ended} step {step}")
        records = stack.enter_context(
            Records(folder, step, config.steps, config.batch_size, console)
        )
        interrupt = stack.enter_context(_interrupts())

        def validate(step: int, state: TrainState) -> None:
            result = devices.evaluate(
                model, state.ema, interrupt.guard(evaluation()), eval_key, eval_objective, mesh
            )
            records.validation(step, result)
            checkpoints.save(step, state, batches, result.bits_per_dim)

        pending: tuple[int, dict[str, Any]] | None = None
        clock = time.monotonic()

        def read_pending() -> None:
            nonlocal pending, clock
            if pending is None:
                return
            number, metrics = pending[0], devices.to_host(pending[1])
            if not metrics.pop("finite"):
                raise NonFiniteError(
                    f"the loss is {metrics['bits_per_dim']} bits/dim with a gradient of norm "
                    f"{metrics['grad_norm']} at step {number}; {checkpoints.describe_last()}"
                )
            now = time.monotonic()
            records.train(number, metrics, now - clock, number % config.log_every == 0)
            pending, clock = None, now

        try:
            # Saved by a signal before it could be validated.
            if _is_due(step, config) and checkpoints.losses.get(step, 0.0) is None:
                validate(step, state)
            while step < config.steps:
                batch = _next(batches, config.batch_size, mesh)
                state, metrics = step_function(state, batch, train_key)
                step += 1
                # Step n - 1 is read when step n is on its way: the device never waits.
                read_pending()
                pending = step, metrics
                sample = config.sample_every and step % config.sample_every == 0
                if _is_due(step, config) or sample or interrupt.reached(step):
                    read_pending()
                    if _is_due(step, config):
                        validate(step, state)
                    if sample and on_sample is not None:
                        on_sample(step, {"params": state.ema})
                    if interrupt.reached(step):
                        raise _Interrupted
                    clock = time.monotonic()
        except _Interrupted:
            if step > 0 and step not in checkpoints.losses:
                checkpoints.save(step, state, batches, None)
            checkpoints.wait()
            records.say(
                f"stopped by {interrupt.name} at step {step}, saved in {folder.path}; "
                "the same command goes on from there"
            )
        checkpoints.wait()
        best = checkpoints.best
        return TrainResult(
            step=step,
            finished=step >= config.steps,
            best_step=best,
            best_bits_per_dim=None if best is None else checkpoints.losses[best],
        )


def _is_due(step: int, config: TrainConfig) -> bool:
    """Whether the step ends with a validation: at intervals, and at the end."""
    return step > 0 and (step % config.eval_every == 0 or step == config.steps)


def _next(batches: Iterator[Batch], batch_size: int, mesh: Mesh) -> dict[str, jax.Array]:
    batch = next(batches)
    rows = len(batch["images"]) * jax.process_count()
    if rows != batch_size:
        raise ValueError(f"the iterator gives batches of {rows} images; accepted: {batch_size}")
    return devices.put_batch(batch, mesh)


def _record(
    model: nn.Module, objective: Objective, data: Mapping[str, Any], config: TrainConfig
) -> dict[str, Any]:
    """What run.json says: all that decides the parameters, and what they were made with."""
    return {
        "model": models.to_dict(model),
        "objective": target_to_dict(objective),
        "data": dict(data),
        "training": dataclasses.asdict(config),
        # The position in the data is saved by process.
        "processes": jax.process_count(),
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "flax": flax.__version__,
        },
    }


class _Interrupted(Exception):
    """A signal asked the run to stop."""


class _Interrupt:
    """Whether a signal came, and which."""

    name: str | None = None

    def reached(self, step: int) -> bool:
        """Whether to save and stop after `step`; all processes agree on the step."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.name = "SIGTERM"
        return self.name is not None

    def guard(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """`batches`, until a signal comes: a long validation must not outlast the grace."""
        for batch in batches:
            if self.name is not None:
                raise _Interrupted
            yield batch


@contextlib.contextmanager
def _interrupts() -> Iterator[_Interrupt]:
    """Takes SIGTERM and Ctrl-C while the run goes on; a second one acts as it always does.

    Python handles signals in the main thread only. With several processes JAX takes SIGTERM
    itself, so that all of them stop after the same step.
    """
    interrupt = _Interrupt()
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield interrupt
        return

    def handle(number: int, frame: Any) -> None:
        del frame
        interrupt.name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)

    previous = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _at_least(least: int, name: str, value: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}; accepted: {least} or more")
