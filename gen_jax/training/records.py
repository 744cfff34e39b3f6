"""What a run writes while it goes: metrics.jsonl, TensorBoard events, and progress."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import jax
import numpy as np
import tensorboardX
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from gen_jax.files import naming, write_atomically
from gen_jax.progress import progress_bar
from gen_jax.training.evaluation import Evaluation
from gen_jax.training.workdir import Workdir
from gen_jax.typing import ArrayLike, Json

_QUIET_SECONDS = 30.0
Numbers: TypeAlias = float | int | list | None
"""What a line of metrics.jsonl says under a name: one number, or one of each latent, say."""


class Records(contextlib.AbstractContextManager):
    """Numbers to the disk and a line to the person; a context manager.

    `step` is where the run goes on from: records of later steps, of a run that was killed,
    are cut. On a terminal and in a notebook there is a progress bar; elsewhere a line now and then.
    Only the first of several processes writes. metrics.jsonl is part of the run: OSError if it
    cannot be written. Events and the person's screen are not: without them the run goes on.
    """

    def __init__(
        self, workdir: Workdir, step: int, num_steps: int, batch_size: int, console: Console
    ):
        self._console = console
        self._batch_size, self._num_steps = batch_size, num_steps
        self._sums: dict[str, np.ndarray] = {}
        self._start = self._last_line = time.monotonic()
        # The first step compiles: it has no part in the speed.
        self._seconds, self._steps, self._timed = 0.0, 0, -1
        self._validation = ""
        self._file = self._writer = None
        self._path = workdir.metrics
        if jax.process_index() == 0:
            if workdir.metrics.exists():
                foreign = _cut(workdir, step)
                if foreign:
                    self.say(
                        f"{workdir.metrics}: lines that no run has written, dropped: {foreign}"
                    )
            with naming(self._path):
                self._file = workdir.metrics.open("a", encoding="utf-8")
            with self._events():
                self._writer = tensorboardX.SummaryWriter(
                    str(workdir.tensorboard), purge_step=step + 1 if step else None
                )
        self._progress = progress_bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("compiling", total=num_steps, completed=step)
        with _screen():
            self._progress.start()

    def __exit__(self, *exception: object) -> None:
        with _screen():
            self._progress.stop()
        with self._events():
            if self._writer is not None:
                self._writer.close()
        if self._file is not None:
            with contextlib.suppress(OSError):  # said already: each line is flushed
                self._file.close()

    def train(self, step: int, metrics: Mapping[str, ArrayLike], seconds: float, log: bool) -> None:
        """Adds one step that took `seconds`; with `log`, writes the means since the last."""
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + np.asarray(value, np.float64)
        self._steps, self._timed = self._steps + 1, self._timed + 1
        self._seconds += seconds if self._timed > 0 else 0.0
        with _screen():
            self._progress.update(self._task, completed=step)
        if not log:
            return
        means = {name: (value / self._steps).tolist() for name, value in self._sums.items()}
        line = f"train {means['bits_per_dim']:.3f}{self._validation} bits/dim"
        left = ""
        if self._timed > 0:
            rate = self._timed / max(self._seconds, 1e-9)
            means["images_per_second"] = rate * self._batch_size
            line += f", {rate:.1f} steps/s"
            left = f", {(self._num_steps - step) / rate:.0f} s left"
        self._write("train", step, means)
        with _screen():
            self._progress.update(self._task, description=line)
        now = time.monotonic()
        if now - self._last_line > _QUIET_SECONDS and self._progress.disable:
            self.say(f"step {step}/{self._num_steps}: {line}{left}")
        self._sums, self._seconds, self._steps = {}, 0.0, 0
        self._timed = 0

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
        self._last_line = time.monotonic()
        say(self._console, message)

    def _write(self, split: str, step: int, values: Mapping[str, Numbers]) -> None:
        if self._file is None:
            return
        clean = {name: _clean(value) for name, value in values.items()}
        record = {"step": step, "split": split, **clean}
        record["seconds"] = round(time.monotonic() - self._start, 3)
        with naming(self._path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        with self._events():
            if self._writer is None:
                return
            for name, value in clean.items():
                if isinstance(value, list):  # of each latent, say
                    self._writer.add_histogram(f"{split}/{name}", np.asarray(value), step)
                elif value is not None:
                    self._writer.add_scalar(f"{split}/{name}", np.float64(value), step)
            self._writer.flush()

    @contextlib.contextmanager
    def _events(self) -> Iterator[None]:
        """The run goes on without events."""
        try:
            yield
        except Exception as error:
            self._writer = None
            self.say(f"warning: TensorBoard events are not written any more: {error}")


def say(console: Console, message: str) -> None:
    """One line to the person, from the first of several processes; never the end of a run.

    A character that the terminal does not know is replaced; one that is gone is told nothing.
    """
    if jax.process_index() == 0:
        message = message.encode(console.encoding, "replace").decode(console.encoding)
        with _screen():
            console.print(message, highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """A terminal or pipe that is gone is no reason to end a run."""
    # Closed, or another alphabet; of a broken pipe rich makes an exit.
    with contextlib.suppress(OSError, ValueError, SystemExit):
        yield


def _clean(value: Numbers) -> Numbers:
    """A number or list of numbers as JSON, which has no NaN."""
    if isinstance(value, list):
        return [_clean(x) for x in value]
    return value if value is not None and math.isfinite(value) else None


def _cut(workdir: Workdir, step: int) -> int:
    """Drops the lines past `step`, and a last line that a kill has torn.

    Returns how many others were none of ours: they are dropped as well.
    """
    text = workdir.metrics.read_bytes()
    records = [_record(line) for line in text.splitlines()]
    kept = [record for record in records if record is not None and record["step"] <= step]
    write_atomically(workdir.metrics, "".join(json.dumps(record) + "\n" for record in kept))
    whole = records if text.endswith(b"\n") else records[:-1]
    return sum(record is None for record in whole)


def _record(line: bytes) -> Json | None:
    """A line of ours; None for any other."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("split"), str):
        return None
    step = record.get("step")
    return record if isinstance(step, int) and not isinstance(step, bool) else None


def read_metrics(workdir: Workdir, split: str | None = None) -> list[Json]:
    """The records of metrics.jsonl, of one split ("train", "validation") or of all.

    Lines that are not ours are passed over.
    """
    lines = workdir.metrics.read_bytes().splitlines() if workdir.metrics.is_file() else []
    records = [record for record in map(_record, lines) if record is not None]
    return [record for record in records if split in (None, record["split"])]
