"""Training from a model, batches and a config to a folder that holds the trained model."""

import contextlib
import dataclasses
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import flax
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from rich.console import Console

from gen_jax import meshes, models
from gen_jax.training import devices, start
from gen_jax.training.checkpoints import Checkpoints
from gen_jax.training.evaluation import evaluate
from gen_jax.training.interrupts import Interrupted, interrupts
from gen_jax.training.objective import LOG_LIKELIHOOD, Objective, Target, target_to_dict
from gen_jax.training.records import Records, say
from gen_jax.training.schema import FORMAT
from gen_jax.training.settings import TrainConfig
from gen_jax.training.state import Batch, Module, NonFiniteError, TrainState, Tree
from gen_jax.training.workdir import Workdir
from gen_jax.typing import Array, Json, Levels

OnSample: TypeAlias = Callable[[int, dict[str, Tree]], None]


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How a run ended; `gen_jax.load(workdir)` gives the model."""

    step: int
    """Updates made."""
    finished: bool
    """False if a signal stopped it or its last validation: the same command goes on from `step`."""
    best_step: int | None
    """The step with the lowest validation loss, whose checkpoint is kept."""
    best_bits_per_dim: float | None
    """The validation loss of that step, in bits/dim."""
    signal: int | None = None
    """The signal that asked it to stop, if one did."""


def train(
    model: Module,
    batches: Iterator[Batch],
    evaluation: Callable[[], Iterable[Batch]],
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    *,
    data: Mapping[str, object],
    objective: Objective = LOG_LIKELIHOOD,
    eval_objective: Objective | None = None,
    examples: Levels | None = None,
    on_sample: OnSample | None = None,
    mesh: Mesh | None = None,
    init_from: str | os.PathLike[str] | None = None,
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
    training images that a model with `needs_examples` looks at in `init`. `on_sample(step,
    variables)` is called every `sample_every` steps with the EMA, valid during the call only.

    With `init_from`, the folder of another run, the parameters start at its best step's EMA.

    A workdir of another run, or one in use, is a ValueError, unless `overwrite`, which deletes
    that run, or `resume` where steps, optimiser or accumulation alone differ. SIGTERM, SIGHUP
    and Ctrl-C save and return; a second one kills. A loss, of training or of validation, that is
    not finite raises NonFiniteError; what cannot be written OSError. `on_sample` may fail: that
    is said, and the run goes on.
    """
    folder = Workdir(workdir)
    mesh = devices.make_mesh() if mesh is None else meshes.data_mesh(mesh)
    console = Console() if console is None else console
    devices.check_batch_size(config.batch_size, mesh, config.accumulate)
    if not getattr(model, "needs_examples", False):
        examples = None
    if isinstance(objective, Target):
        objective.check(model)
    if eval_objective is None:
        eval_objective = objective.evaluation if isinstance(objective, Target) else objective
    abstract = devices.abstract_state(model, config.optimizer, config.steps, mesh)
    devices.check_memory(abstract, mesh)
    step_function = devices.compile_train_step(
        mesh,
        model=model,
        objective=objective,
        optimizer=config.optimizer,
        num_steps=config.steps,
        accumulate=config.accumulate,
        precision=config.precision,
    )
    record, weights = _record(model, objective, data, config), None
    if init_from is not None:
        record["init_from"], weights = start.weights_of(init_from, abstract, folder, overwrite)
    with contextlib.ExitStack() as stack:
        stack.enter_context(meshes.in_force(mesh))
        init_key, train_key, eval_key = jax.random.split(jax.random.key(config.seed), 3)
        interrupt = stack.enter_context(interrupts(lambda message: say(console, message)))
        stack.enter_context(_held(folder, record, resume, overwrite, console))
        checkpoints = stack.enter_context(
            Checkpoints(folder, config.keep, lambda message: say(console, message))
        )
        state = checkpoints.restore(abstract, batches)
        if state is None:
            state = devices.create_state(
                model, config.optimizer, config.steps, init_key, mesh, examples
            )
            if weights is not None:
                state = start.begin(state, weights)
            step = 0
        else:
            step = int(state.step)
            ended = "is finished at" if step >= config.steps else "goes on from"
            say(console, f"the run in {folder.path} {ended} step {step}")
        if jax.process_index() == 0:
            folder.goes_on_from(step)
        records = stack.enter_context(
            Records(folder, step, config.steps, config.batch_size, console)
        )

        def validate(step: int, state: TrainState) -> None:
            try:
                result = evaluate(
                    model, state.ema, interrupt.guard(evaluation()), eval_key, eval_objective, mesh
                )
            except NonFiniteError as error:
                raise NonFiniteError(
                    f"validation at step {step}: {error}; {checkpoints.describe_last()}"
                ) from error
            if step in checkpoints.losses:
                checkpoints.validated(step, result.bits_per_dim)
            else:
                checkpoints.save(step, state, batches, result.bits_per_dim)
            records.validation(step, result)

        def show_samples(step: int, state: TrainState) -> None:
            if on_sample is None:
                return
            try:
                on_sample(step, {"params": state.ema})
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                records.say(f"warning: no samples of step {step}: {reason}")

        pending: tuple[int, dict[str, Array]] | None = None
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
            if interrupt.reached(step):  # while all this was made ready
                raise Interrupted
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
                    # Drawing takes long: not once a signal has come.
                    if sample and not interrupt.reached(step):
                        show_samples(step, state)
                    if interrupt.reached(step):
                        raise Interrupted
                    clock = time.monotonic()
        except Interrupted:
            if step > 0 and step not in checkpoints.losses:
                checkpoints.save(step, state, batches, None)
            checkpoints.wait()
            saved = f"at step {step}, saved in {folder.path}" if step else "before the first step"
            goes_on = "goes on from there" if step else "starts it"
            records.say(f"stopped by {interrupt.name} {saved}; the same command {goes_on}")
        checkpoints.wait()
        best = checkpoints.best
        return TrainResult(
            step=step,
            # A signal may have cut its last validation short.
            finished=step >= config.steps and checkpoints.losses.get(step) is not None,
            best_step=best,
            best_bits_per_dim=None if best is None else checkpoints.losses[best],
            signal=interrupt.number,
        )


@contextlib.contextmanager
def _held(
    folder: Workdir, record: Json, resume: bool, overwrite: bool, console: Console
) -> Iterator[None]:
    """The folder, locked and claimed by the first process for all of them."""
    with contextlib.ExitStack() as stack:
        refusal: Exception | None = None
        if jax.process_index() == 0:
            try:
                # First with nothing written, not even a lock: it may be anybody's folder.
                folder.check(record, resume=resume, overwrite=overwrite)
                stack.enter_context(folder.lock())
                folder.claim(
                    record,
                    resume=resume,
                    overwrite=overwrite,
                    notify=lambda message: say(console, message),
                )
            except (ValueError, OSError) as error:
                refusal = error
        if jax.process_count() > 1:
            taken = multihost_utils.broadcast_one_to_all(np.int32(refusal is None))
            if not taken and refusal is None:
                refusal = ValueError(
                    f"{folder.path} was refused by the first process; accepted: what that one says"
                )
        if refusal is not None:
            raise refusal
        yield


def _is_due(step: int, config: TrainConfig) -> bool:
    """Whether the step ends with a validation: at intervals, and at the end."""
    return step > 0 and (step % config.eval_every == 0 or step == config.steps)


def _next(batches: Iterator[Batch], batch_size: int, mesh: Mesh) -> dict[str, jax.Array]:
    batch = next(batches)
    count = len(batch["images"]) * jax.process_count()
    if count != batch_size:
        raise ValueError(f"the iterator gives batches of {count} images; accepted: {batch_size}")
    return devices.put_batch(batch, mesh)


def _record(
    model: Module, objective: Objective, data: Mapping[str, object], config: TrainConfig
) -> Json:
    """What run.json says: all that decides the parameters, and what they were made with."""
    return {
        "format": FORMAT,
        "model": models.to_dict(model),
        "objective": target_to_dict(objective),
        "data": dict(data),
        "training": dataclasses.asdict(config),
        # The position in the data is saved by process.
        "processes": jax.process_count(),
        "init_from": None,
        "earlier": [],
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "flax": flax.__version__,
        },
    }
