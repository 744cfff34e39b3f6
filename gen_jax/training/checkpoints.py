"""Checkpoints of a run, through Orbax: written in the background, each complete or absent.

A checkpoint has four items: params, ema (by itself, so that loading a model needs no
optimiser), optimizer (with the running mean of the objective), and data (the position of the
training iterator); its folder's name is the step. The best by validation and the last few are kept.
"""

import contextlib
import gc
import logging
import os
import pathlib
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import v1 as ocp

from gen_jax import models
from gen_jax.training.state import NonFiniteError, TrainState, Tree, all_finite, init_params
from gen_jax.training.workdir import Workdir

_policies: Any = ocp.training.preservation_policies
_METRIC = "loss"


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of one run; a context manager that waits for the last save.

    `notify` is told, in one line, of each checkpoint that could not be read.
    """

    def __init__(self, workdir: Workdir, keep: int = 2, notify: Callable[[str], None] = print):
        if keep < 1:
            raise ValueError(f"keep is {keep}; accepted: 1 or more checkpoints beside the best")
        self._workdir = workdir
        self._notify = notify
        self._checkpointer = ocp.training.Checkpointer(
            os.fspath(workdir.checkpoints),
            preservation_policy=_policies.AnyPreservationPolicy(
                [
                    _policies.LatestN(keep),
                    _policies.BestN(
                        n=1,
                        get_metric_fn=lambda metrics: metrics[_METRIC],
                        reverse=True,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=True,
        )

    def __exit__(self, *exception: object) -> None:
        self._checkpointer.close()

    @property
    def losses(self) -> dict[int, float | None]:
        """Step -> validation loss (None if it was saved without one), in order of step."""
        return _losses(self._checkpointer)

    @property
    def last(self) -> int | None:
        """The last step saved."""
        return max(self.losses, default=None)

    @property
    def best(self) -> int | None:
        """The step with the lowest validation loss."""
        return _best(self.losses)

    def save(
        self, step: int, state: TrainState, data: Any, loss: float | None, *, wait: bool = False
    ) -> None:
        """Saves `state` and the position of `data` in the background; `wait` for the disk.

        A checkpoint of the same step is replaced. Raises NonFiniteError, and saves nothing,
        if the state or the loss is not finite.
        """
        values = (state.params, state.ema, state.opt_state, state.running_nats)
        if not all_finite(values) or (loss is not None and loss - loss != 0):
            raise NonFiniteError(
                f"the state at step {step} is not finite and was not saved; {self.describe_last()}"
            )
        # Without force, Orbax drops a save silently while another is in flight.
        self._checkpointer.save_checkpointables_async(
            step,
            {
                "params": state.params,
                "ema": state.ema,
                "optimizer": {"state": state.opt_state, "running_nats": state.running_nats},
                "data": data,
            },
            metrics=None if loss is None else {_METRIC: loss},
            force=True,
            overwrite=step in self.losses,
        )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Returns when everything saved is on the disk."""
        self._checkpointer.wait()

    def restore(self, abstract: TrainState, data: Any) -> TrainState | None:
        """The last state that can be read, with `data` moved to its position; None if none is.

        `abstract` has the shapes, dtypes and shardings wanted: the checkpoint may come from
        another number of devices. Those that cannot be read are moved to damaged/.
        Raises ValueError if there are checkpoints, but none can be read.
        """
        damaged: list[int] = []
        for step in reversed(self.losses):
            wanted = {
                "params": abstract.params,
                "ema": abstract.ema,
                "optimizer": {
                    "state": abstract.opt_state,
                    "running_nats": abstract.running_nats,
                },
                "data": data,
            }
            path = self._workdir.checkpoints / str(step)
            items, reason = _read(path, wanted)
            if items is None:
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
                f"none of the checkpoints in {self._workdir.checkpoints} can be read: "
                f"steps {', '.join(map(str, reversed(damaged)))}"
            )
        return None

    def describe_last(self) -> str:
        """Where the last checkpoint is, for a message."""
        self.wait()
        if self.last is None:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {self._workdir.checkpoints / str(self.last)}"

    def _set_aside(self, steps: list[int]) -> None:
        if jax.process_index() == 0:
            for step in steps:
                target = self._workdir.damaged / str(step)
                shutil.rmtree(target, ignore_errors=True)
                target.parent.mkdir(exist_ok=True)
                shutil.move(self._workdir.checkpoints / str(step), target)
        if steps:
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices("damaged checkpoints are aside")
            self._checkpointer.reload()


def load(
    workdir: str | os.PathLike[str], step: int | Literal["best", "last"] = "best"
) -> tuple[nn.Module, dict[str, Tree]]:
    """The model of a run and the variables it is used with: the EMA of a step, on one device.

    "best" is the step with the lowest validation loss (the last step if none was validated).
    Raises ValueError if there is no such folder, run or checkpoint, or if it is damaged.
    """
    folder = Workdir(workdir)
    model = models.from_dict(folder.read()["model"])
    chosen = resolve_step(workdir, step)
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(lambda key: init_params(model, key), jax.random.key(0)),
    )
    path = folder.checkpoints / str(chosen)
    items, reason = _read(path, {"ema": abstract})
    if items is None:
        raise ValueError(
            f"{path} is damaged, or not of the model in run.json ({reason}); "
            f"complete steps: {', '.join(map(str, complete_steps(workdir)))}"
        )
    return model, {"params": items["ema"]}


def resolve_step(
    workdir: str | os.PathLike[str], step: int | Literal["best", "last"] = "best"
) -> int:
    """The number of the step that `load` takes. Raises ValueError if there is none such."""
    folder = Workdir(workdir)
    folder.read()
    steps = complete_steps(workdir)
    if not steps:
        raise ValueError(f"{folder.path} holds no complete checkpoint yet")
    if step == "best":
        step = _best(steps) or "last"
    chosen = max(steps) if step == "last" else step
    if chosen not in steps:
        known = ", ".join(map(str, steps))
        raise ValueError(f"{folder.path} has no checkpoint of step {chosen}; it has: {known}")
    return chosen


def complete_steps(workdir: str | os.PathLike[str]) -> dict[int, float | None]:
    """Step -> validation loss (None if there is none) of each checkpoint of a run, in order."""
    folder = Workdir(workdir).checkpoints
    if not folder.is_dir():
        return {}
    with ocp.training.Checkpointer(os.fspath(folder)) as checkpointer:
        return _losses(checkpointer)


def _losses(checkpointer: ocp.training.Checkpointer) -> dict[int, float | None]:
    losses: dict[int, float | None] = {}
    for checkpoint in checkpointer.checkpoints:
        metrics: Any = checkpoint.metrics
        losses[checkpoint.step] = metrics[_METRIC] if metrics else None
    return losses


def _best(losses: dict[int, float | None]) -> int | None:
    known = [(loss, -step) for step, loss in losses.items() if loss is not None]
    return -min(known)[1] if known else None


def _read(path: pathlib.Path, wanted: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The items wanted and "", or None and the reason, in one line, why they cannot be read."""
    with _without_orphans():
        # A cut file may surface as almost anything: KeyError, ValueError, OSError, ...
        try:
            return ocp.load_checkpointables(os.fspath(path), wanted), ""
        except Exception as error:
            text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            reason = f"{type(error).__name__}: {text[:120]}"
        for _ in range(10):
            time.sleep(0.05)  # some leaves are still being read
            gc.collect()
        return None, reason


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


def _is_not_orphan(record: logging.LogRecord) -> bool:
    return "exception was never retrieved" not in record.getMessage()
