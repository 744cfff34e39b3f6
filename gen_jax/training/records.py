"""What a run writes while it goes: metrics.jsonl, TensorBoard events, and progress."""

import contextlib
import json
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import tensorboardX
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gen_jax.training.step import Evaluation
from gen_jax.training.workdir import Workdir, write_atomically

_QUIET_SECONDS = 30.0


class Records(contextlib.AbstractContextManager):
    """Numbers to the disk and a line to the person; a context manager.

    `step` is where the run goes on from: records of later steps, of a run that was killed,
    are cut. On a terminal there is a progress bar; elsewhere a line now and then.
    Only the first of several processes writes.
    """

    def __init__(
        self, workdir: Workdir, step: int, num_steps: int, batch_size: int, console: Console
    ):
        self._console = console
        self._batch_size, self._num_steps = batch_size, num_steps
        self._sums: dict[str, Any] = {}
        self._start = self._last_line = time.monotonic()
        self._seconds, self._steps = 0.0, 0
        self._validation = ""
        self._file = self._writer = None
        if jax.process_index() == 0:
            if workdir.metrics.exists():
                _cut(workdir, step)
            self._file = workdir.metrics.open("a")
            self._writer = tensorboardX.SummaryWriter(
                str(workdir.tensorboard), purge_step=step + 1 if step else None
            )
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("compiling", total=num_steps, completed=step)
        self._progress.start()

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._writer.close()

    def train(self, step: int, metrics: Mapping[str, Any], seconds: float, log: bool) -> None:
        """Adds one step that took `seconds`; with `log`, writes the means since the last."""
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + np.asarray(value, np.float64)
        self._seconds, self._steps = self._seconds + seconds, self._steps + 1
        self._progress.update(self._task, completed=step)
        if not log:
            return
        means = {name: (value / self._steps).tolist() for name, value in self._sums.items()}
        rate = self._steps / max(self._seconds, 1e-9)
        means["learning_rate"] = float(metrics["learning_rate"])
        self._write("train", step, means | {"images_per_second": rate * self._batch_size})
        line = f"train {means['bits_per_dim']:.3f}{self._validation} bits/dim, {rate:.1f} steps/s"
        self._progress.update(self._task, description=line)
        now = time.monotonic()
        if now - self._last_line > _QUIET_SECONDS and not self._console.is_terminal:
            left = (self._num_steps - step) / rate
            self.say(f"step {step}/{self._num_steps}: {line}, {left:.0f} s left")
        self._sums, self._seconds, self._steps = {}, 0.0, 0

    def validation(self, step: int, evaluation: Evaluation) -> None:
        """Writes one evaluation."""
        self._write("validation", step, evaluation.as_dict())
        self._validation = f", validation {evaluation.bits_per_dim:.3f}"
        self.say(
            f"step {step}/{self._num_steps}: validation {evaluation.bits_per_dim:.4f} ± "
            f"{evaluation.bits_per_dim_standard_error:.4f} bits/dim ({evaluation.count} images)"
        )

    def say(self, message: str) -> None:
        """One line to the person."""
        if jax.process_index() == 0:
            self._last_line = time.monotonic()
            self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def _write(self, split: str, step: int, values: Mapping[str, Any]) -> None:
        if self._file is None or self._writer is None:
            return
        clean = {name: _clean(value) for name, value in values.items()}
        record = {"step": step, "split": split, **clean}
        record["seconds"] = round(time.monotonic() - self._start, 3)
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, list):  # of each latent, say
                self._writer.add_histogram(f"{split}/{name}", np.asarray(value), step)
            else:
                self._writer.add_scalar(f"{split}/{name}", np.float64(value), step)
        self._writer.flush()


def _clean(value: Any) -> Any:
    """A number or list of numbers as JSON, which has no NaN."""
    if isinstance(value, list):
        return [_clean(x) for x in value]
    return value if math.isfinite(value) else None


def _cut(workdir: Workdir, step: int) -> None:
    """Drops the lines past `step`, and a last line that a kill has torn."""
    kept = [line for line in workdir.metrics.read_text().splitlines() if _step(line) <= step]
    write_atomically(workdir.metrics, "".join(line + "\n" for line in kept))


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


def read_metrics(workdir: Workdir, split: str | None = None) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, of one split ("train", "validation") or of all."""
    lines: Iterable[str] = ()
    if workdir.metrics.exists():
        lines = workdir.metrics.read_text().splitlines()
    records = [json.loads(line) for line in lines if _step(line) < math.inf]
    return [record for record in records if split in (None, record["split"])]
