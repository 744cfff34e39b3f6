"""What does an accelerator do? `python -m experiments.benchmarks.accelerator [--minutes 8]`.

Sampling, one whole-image pass and training steps, and beside them PyTorch on the same card if it is
installed (`pip install torch transformers`). The minutes are spent in order of importance: figures
are compiled side by side, a few at a time, then timed with nothing else running; each is printed
and written as it comes. When time is up, what is there is the result. On a CPU the sizes are small.
"""

import dataclasses
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax

from experiments.benchmarks import accelerator_table, timing
from experiments.benchmarks.accelerator_figure import Figure, Setting
from experiments.benchmarks.accelerator_figures import figures
from gen_jax.files import write_atomically
from gen_jax.precision import Precision
from gen_jax.scripts import cli, results


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure, and for how long."""

    minutes: float = 8.0
    """When to stop; what is being timed then is finished."""
    sizes: Literal["full", "small"] | None = None
    """Sizes of models and batches: by default small on a CPU, which shows that it works."""
    precision: Precision = "default"
    """How exactly the accelerator multiplies matrices."""
    repeats: int = 3
    """Timed runs of each; medians are reported."""
    compilers: int = 8
    """How many are compiled side by side."""
    output: str = "runs/benchmark-accelerator"
    """Folder for accelerator.json and accelerator.md."""


def main(arguments: Sequence[str]) -> None:
    """Parses, measures, prints each figure, writes accelerator.json and accelerator.md."""
    options = cli.parse(Options, "python -m experiments.benchmarks.accelerator", arguments)
    cli.check_counts(repeats=options.repeats, compilers=options.compilers)
    if not options.minutes > 0:
        raise ValueError(f"minutes is {options.minutes}; accepted: more than 0")
    deadline = time.monotonic() + 60 * options.minutes
    # PyTorch, which shares the card, needs some of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.7")
    folder = results.writable(Path(options.output))
    sizes = options.sizes or ("small" if jax.default_backend() == "cpu" else "full")
    setting = Setting(sizes == "small", options.precision, options.repeats)
    result = {
        **results.environment(),
        "precision": options.precision,
        "repeats": options.repeats,
        "sizes": sizes,
        "matmul_tflops": matmul_rate(setting),
        "figures": [],
    }
    cli.say(f"{result['device']}, jax {result['jax']}, precision {options.precision}, {sizes}")
    cli.say(f"a large matmul: {result['matmul_tflops']:.3g} TFLOP/s")
    wanted = figures(setting)
    for found in measured(wanted, deadline, options.compilers):
        rate = found.get("tflops")
        if rate is not None:
            found["share_of_matmul"] = rate / result["matmul_tflops"]
        result["figures"].append(found)
        cli.say(accelerator_table.line(found))
        _write(folder, result)
    left_out = len(wanted) - len(result["figures"])
    if left_out:
        cli.say(f"time is up: {left_out} of {len(wanted)} figures are left out")
    cli.say(f"wrote {_write(folder, result)} and {folder / 'accelerator.md'}")


def _write(folder: Path, result: dict[str, Any]) -> Path:
    write_atomically(folder / "accelerator.md", accelerator_table.markdown(result))
    return results.save_json(folder / "accelerator.json", result)


def matmul_rate(setting: Setting) -> float:
    """TFLOP/s of a matmul of float32 squares."""
    with setting.in_precision():
        matmul, flops = timing.large_matmul(512 if setting.small else 8192)
        return flops / timing.median_seconds(matmul, setting.repeats) / 1e12


def measured(wanted: Sequence[Figure], deadline: float, compilers: int) -> Iterator[dict[str, Any]]:
    """The figures, in order, as far as there is time; one that fails says why.

    Nothing is timed while anything compiles: so many are compiled side by side, then timed. Only
    when most of the time left has gone by are those timed that are ready, which then say so.
    """
    for start in range(0, len(wanted), compilers):
        compilations = [Compilation(figure) for figure in wanted[start : start + compilers]]
        now = time.monotonic()
        patience = now + 0.8 * max(0.0, deadline - now)
        for compilation in compilations:
            compilation.thread.join(max(0.0, patience - time.monotonic()))
        ready = [x for x in compilations if not x.thread.is_alive()]
        for compilation in ready:
            if time.monotonic() > deadline:
                return
            found = compilation.measure()
            yield found if ready == compilations else {**found, "while_others_compiled": True}
        if ready != compilations:
            return


class Compilation:
    """A figure on its way, in a thread of its own."""

    def __init__(self, figure: Figure):
        self.figure, self.call, self.error = figure, None, None
        # A daemon: what still compiles when time is up is not waited for.
        self.thread = threading.Thread(target=self._prepare, name="compiling", daemon=True)
        self.thread.start()

    def _prepare(self) -> None:
        try:
            self.call = self.figure.prepare()
        except Exception as error:
            self.error = error

    def measure(self) -> dict[str, Any]:
        """What was measured, or "failed" and the reason."""
        found = dict(self.figure.about)
        try:
            if self.error is not None:
                raise self.error
            assert self.call is not None
            found |= self.call()
        except Exception as error:  # out of memory, most likely: the others go on
            found["failed"] = " ".join(str(error).split())[:200] or type(error).__name__
        self.call = None  # and all that it holds in memory
        return found


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
    if any(thread.name == "compiling" for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(0)  # Python would end while XLA still runs in it
