"""Checkpoints of a run, through Orbax: written in the background, each complete or absent.

A checkpoint has four items: params, ema (by itself, so that loading a model needs no
optimiser), optimizer (with the running mean of the objective), and data (the position of the
training iterator); its folder's name is the step. The best by validation and the last few are kept.
What it is on the disk, and whose, is in `checkpoint_files`.
"""

import contextlib
import errno
import gc
import logging
import os
import pathlib
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import v1 as ocp

from gen_jax import checks, models
from gen_jax.models.shared.protocol import Model
from gen_jax.training import checkpoint_files
from gen_jax.training.state import (
    NonFiniteError,
    TrainState,
    all_finite,
    init_params,
    not_finite,
)
from gen_jax.training.workdir import Workdir
from gen_jax.typing import Json, PyTree, Variables

_CUT = "a file is missing, cut short or altered"


class DamagedWarning(UserWarning):
    """A file of a run cannot be read, and what it said is done without."""


class _Save(NamedTuple):
    """A save in the background."""

    step: int
    response: Any
    """Orbax's: its `result` waits, and raises what went wrong."""
    done: threading.Event
    """The loss is on the disk too."""


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of one run; a context manager that waits for the last save.

    `notify` is told, in one line, of each checkpoint that could not be read.
    """

    def __init__(self, workdir: Workdir, keep: int = 2, notify: Callable[[str], None] = print):
        if keep < 1:
            raise ValueError(f"keep is {keep}; accepted: 1 or more checkpoints beside the best")
        self._workdir, self._keep, self._notify = workdir, keep, notify
        self._saving: _Save | None = None
        logging.getLogger("absl").addFilter(_is_not_of_a_save)
        if jax.process_index() == 0:
            checkpoint_files.remove_leftovers(workdir.checkpoints)
        _meet("leftovers are gone")
        self._losses = checkpoint_files.losses(workdir.checkpoints, notify)

    def __exit__(self, *exception: object) -> None:
        try:
            self.wait()
        except OSError:
            if exception[0] is None:
                raise
        finally:
            logging.getLogger("absl").removeFilter(_is_not_of_a_save)

    @property
    def losses(self) -> dict[int, float | None]:
        """Step -> validation loss (None if it was saved without one), in order of step."""
        return dict(self._losses)

    @property
    def last(self) -> int | None:
        """The last step saved."""
        return max(self._losses, default=None)

    @property
    def best(self) -> int | None:
        """The step with the lowest validation loss."""
        return _best(self._losses)

    def save(
        self, step: int, state: TrainState, data: object, loss: float | None, *, wait: bool = False
    ) -> None:
        """Saves `state` and the position of `data` in the background; `wait` for the disk.

        Raises NonFiniteError, and saves nothing, if the state or the loss is not finite;
        OSError, now or at the next call, if it cannot be written.
        """
        values = (state.params, state.ema, state.opt_state, state.running_nats)
        if not all_finite(values) or (loss is not None and loss - loss != 0):
            raise NonFiniteError(
                f"the state at step {step} is not finite and was not saved; {self.describe_last()}"
            )
        self.wait()
        if step in self._losses:
            raise ValueError(f"step is {step}, of which there is a checkpoint; accepted: others")
        path, done = self._workdir.checkpoints / str(step), threading.Event()
        items = {
            "params": state.params,
            "ema": state.ema,
            "optimizer": {"state": state.opt_state, "running_nats": state.running_nats},
            "data": data,
        }
        seal = checkpoint_files.seal(step, data, loss)
        with _saving(path):
            response = ocp.save_checkpointables_async(os.fspath(path), items, custom_metadata=seal)

        def finish(_: object) -> None:
            # On the way of the save, so that a kill finds few checkpoints without their loss.
            try:
                if loss is not None and jax.process_index() == 0:
                    checkpoint_files.write_loss(path, loss)
            finally:
                done.set()

        response.on_complete(finish)
        self._saving = _Save(step, response, done)
        self._losses[step] = loss
        if wait:
            self.wait()

    def validated(self, step: int, loss: float) -> None:
        """Adds the validation loss to a checkpoint that was saved without."""
        self.wait()
        if jax.process_index() == 0:
            checkpoint_files.write_loss(self._workdir.checkpoints / str(step), loss)
        self._losses[step] = loss

    def wait(self) -> None:
        """Returns when everything saved is on the disk. Raises OSError if it cannot be."""
        if self._saving is None:
            return
        (step, response, done), self._saving = self._saving, None
        try:
            with _saving(self._workdir.checkpoints / str(step)):
                response.result()
                done.wait()
        except OSError:
            del self._losses[step]
            if jax.process_index() == 0:
                _remove_what_is_left(self._workdir.checkpoints)
            raise
        kept = {*sorted(self._losses)[-self._keep :], self.best}
        for old in self._losses.keys() - kept:
            del self._losses[old]
            if jax.process_index() == 0:
                checkpoint_files.remove(self._workdir.checkpoints / str(old))

    def restore(self, abstract: TrainState, data: object) -> TrainState | None:
        """The last state that can be read, with `data` moved to its position; None if none is.

        `abstract` has the shapes, dtypes and shardings wanted: the checkpoint may come from
        another number of devices. Those that cannot be read are moved to damaged/.
        Raises ValueError if there are checkpoints, but none can be read.
        """
        damaged: list[int] = []
        wanted = {
            "params": abstract.params,
            "ema": abstract.ema,
            "optimizer": {"state": abstract.opt_state, "running_nats": abstract.running_nats},
            "data": data,
        }
        for step in reversed(checkpoint_files.steps(self._workdir.checkpoints)):
            path = self._workdir.checkpoints / str(step)
            items, reason = _read(path, wanted)
            if items is not None and not all_finite([items[x] for x in checkpoint_files.ARRAYS]):
                items, reason = None, "it holds numbers that are not finite"
            if not _agree(items is not None) or items is None:
                reason = reason or "another process cannot read it"
                self._notify(f"checkpoint {step} in {self._workdir.path} is damaged: {reason}")
                damaged.append(step)
                continue
            self._set_aside(damaged)
            if damaged:
                self._notify(f"going on from step {step} instead of step {damaged[0]}")
            count = jax.device_put(jax.numpy.int32(step), abstract.step.sharding)
            return TrainState(
                step=count,
                params=items["params"],
                ema=items["ema"],
                opt_state=items["optimizer"]["state"],
                running_nats=items["optimizer"]["running_nats"],
            )
        if damaged:
            raise ValueError(
                f"none of the checkpoints in {self._workdir.checkpoints} can be read, of steps "
                f"{', '.join(map(str, reversed(damaged)))}; accepted: a folder with one that can, "
                "or overwrite (--overwrite)"
            )
        return None

    def describe_last(self) -> str:
        """Where the last checkpoint is, for a message."""
        self.wait()
        if self.last is None:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {self._workdir.checkpoints / str(self.last)}"

    def _set_aside(self, steps: list[int]) -> None:
        for step in steps:
            self._losses.pop(step, None)
            if jax.process_index() == 0:
                path = self._workdir.checkpoints / str(step)
                checkpoint_files.set_aside(path, self._workdir.damaged)
        if steps:
            _meet("damaged checkpoints are aside")


def load(
    workdir: str | os.PathLike[str],
    step: int | Literal["best", "last"] = "best",
    *,
    model: Model | None = None,
) -> tuple[Model, Variables]:
    """The model of a run and the variables it is used with: the EMA of a step, on one device.

    "best" is the step with the lowest validation loss (the last step if none was validated). A
    `model` of a class of one's own must be given, equal to the one that was trained.
    Raises ValueError if there is no such folder, run or checkpoint, if it is damaged, or of another
    model than the given; NonFiniteError if a parameter is not finite.
    """
    return load_step(Workdir(workdir), step, model=model)[:2]


def load_step(
    folder: Workdir, step: int | Literal["best", "last"], *, model: Model | None = None
) -> tuple[Model, Variables, int, Json]:
    """What `load` gives, the number of the step, and what run.json says."""
    record = folder.read()
    if model is None:
        try:
            model = models.from_dict(record["model"])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{folder.run}: model: {error}") from error
    elif isinstance(model, type) or not isinstance(model, nn.Module):
        raise TypeError(f"model is {model!r}; accepted: one such as models.PixelCNN(…)")
    difference = folder.difference(record, {**record, "model": models.to_dict(model)})
    if difference is not None:
        raise ValueError(
            f"{folder.path} holds another model: {difference}; accepted: an equal model"
        )
    chosen = _resolve(folder, step)
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(lambda key: init_params(model, key), jax.random.key(0)),
    )
    path = folder.checkpoints / str(chosen)
    items, reason = _read(path, {"ema": abstract})
    if items is None:
        others = [other for other in complete_steps(folder.path) if other != chosen]
        raise ValueError(
            f"{path} is damaged, or not of the model in run.json ({reason}); "
            f"accepted: {_steps_or_another(others)}"
        )
    name = not_finite(items["ema"])
    if name is not None:
        raise NonFiniteError(f"{path}: the parameter {name} is not finite")
    return model, {"params": items["ema"]}, chosen, record


def resolve_step(
    workdir: str | os.PathLike[str], step: int | Literal["best", "last"] = "best"
) -> int:
    """The number of the step that `load` takes. Raises ValueError if there is none such.

    Warns where damaged checkpoints are passed over.
    """
    folder = Workdir(workdir)
    folder.read()
    return _resolve(folder, step)


def _steps_or_another(steps: Iterable[int]) -> str:
    """What to read in place of a checkpoint that cannot be."""
    known = ", ".join(map(str, steps))
    return f"other steps, {known}" if known else "another run, as this has no other step"


def _resolve(folder: Workdir, step: int | Literal["best", "last"]) -> int:
    if not isinstance(step, str):
        step = checks.whole("step", step, 0)
    elif step not in ("best", "last"):
        raise ValueError(f"step is {step!r}; accepted: best, last or a number")
    steps = complete_steps(folder.path)
    damaged = [s for s in checkpoint_files.steps(folder.checkpoints) if s not in steps]
    known = ", ".join(map(str, steps)) or "none"
    if not steps and not damaged:
        raise ValueError(
            f"{folder.path} holds no complete checkpoint yet; accepted: a run that has saved one"
        )
    if step in damaged or not steps:
        path = folder.checkpoints / str(step if step in damaged else damaged[-1])
        raise ValueError(f"{path} is damaged: {_CUT}; accepted: {_steps_or_another(steps)}")
    if isinstance(step, int):
        if step not in steps:
            raise ValueError(
                f"step is {step}, of which {folder.path} has no checkpoint; accepted: {known}"
            )
        return step
    best = _best(steps) if step == "best" else None
    chosen = max(steps) if best is None else best
    for other in damaged:
        _warn(f"{folder.checkpoints / str(other)} is damaged: {_CUT}; step {chosen} is taken")
    return chosen


def complete_steps(workdir: str | os.PathLike[str]) -> dict[int, float | None]:
    """Step -> validation loss (None if there is none) of each complete checkpoint, in order.

    Warns of a loss that cannot be read.
    """
    return checkpoint_files.losses(Workdir(workdir).checkpoints, _warn)


def _best(losses: dict[int, float | None]) -> int | None:
    known = [(loss, -step) for step, loss in losses.items() if loss is not None]
    return -min(known)[1] if known else None


def _read(path: pathlib.Path, wanted: dict[str, Any]) -> tuple[dict[str, PyTree] | None, str]:
    """The items wanted and "", or None and the reason, in plain words, why they cannot be read."""
    if not checkpoint_files.is_complete(path):
        return None, _CUT
    wrong = checkpoint_files.disagreement(path) if "data" in wanted else None
    if wrong is not None:
        return None, wrong
    with _without_orphans():
        # A cut file may surface as almost anything: KeyError, ValueError, OSError, ...
        try:
            return ocp.load_checkpointables(os.fspath(path), wanted), ""
        except Exception as error:
            reason = _plainly(error)
        time.sleep(0.5)  # some leaves are still being read
        gc.collect()
        return None, reason


def _plainly(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return error.strerror
    return _CUT


@contextlib.contextmanager
def _saving(path: pathlib.Path) -> Iterator[None]:
    """What goes wrong with a save is an OSError in one line, with the path."""
    with _without_orphans():
        try:
            yield
        except Exception as error:
            text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            number, reason = errno.EIO, f"{type(error).__name__}: {text[:120]}"
            for known in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
                if getattr(error, "errno", None) == known or os.strerror(known) in str(error):
                    number, reason = known, os.strerror(known)
            raise OSError(
                number, f"the checkpoint cannot be written: {reason}", os.fspath(path)
            ) from error


def _warn(message: str) -> None:
    warnings.warn(message, DamagedWarning, stacklevel=4)


def _remove_what_is_left(folder: pathlib.Path) -> None:
    for _ in range(20):
        try:
            return checkpoint_files.remove_leftovers(folder)
        except OSError:
            time.sleep(0.1)  # some leaves are still being written
    return None


def _meet(what: str) -> None:
    """Waits for the other processes."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def _agree(value: bool) -> bool:
    """Whether it is so on every process."""
    if jax.process_count() == 1:
        return value
    return bool(np.all(multihost_utils.process_allgather(np.int32(value))))


@contextlib.contextmanager
def _without_orphans() -> Iterator[None]:
    """Silences what is left behind when Orbax gives up on one leaf of many: the others' tasks
    complain as they are collected, with pages of tracebacks beside our one line."""
    log, hook = logging.getLogger("asyncio"), sys.unraisablehook
    log.addFilter(_is_not_orphan)
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        sys.unraisablehook = hook
        log.removeFilter(_is_not_orphan)


def _is_not_of_a_save(record: logging.LogRecord) -> bool:
    """Orbax logs a traceback for each thread of a save that fails, and raises the error too."""
    return "_SignalingThread.run() raised" not in record.getMessage()


def _is_not_orphan(record: logging.LogRecord) -> bool:
    return "exception was never retrieved" not in record.getMessage()
