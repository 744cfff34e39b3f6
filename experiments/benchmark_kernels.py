"""How fast are kernels read for one image? `python -m experiments.benchmark_kernels`.

A batch of one does two operations for each parameter that it reads, so drawing one image is as fast
as memory is read. Each kernel of a transformer layer is applied to one vector, as it lies in memory
`[inputs, outputs]` and as its transpose, going round enough copies that none stays in a cache. Both
are compiled as a sampler is and timed in turn, compilation apart. Pin a core with `taskset -c 0`.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import cli, timing
from gen_jax import sampling


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    features: int = 256
    """Width of the layer; its hidden layer is four times as wide."""
    megabytes: int = 25
    """Kernels of one shape that are read in turn."""
    rounds: int = 40
    """Times that all of them are read in a timed run."""
    repeats: int = 7
    """Timed runs of each; medians are reported."""


def main(arguments: Sequence[str]) -> None:
    """Parses, measures, prints a table."""
    options = cli.parse(Options, "benchmark_kernels", arguments)
    cli.check_counts(**dataclasses.asdict(options))
    width = options.features
    shapes = {
        "queries, keys, values": (width, 3 * width),
        "output": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }
    table = Table(title=f"GB/s and their ratio, medians of {options.repeats}")
    for column in ("kernel", "shape", "as it is", "transposed", "ratio"):
        table.add_column(column, justify="left" if column == "kernel" else "right")
    for name, shape in cli.track(shapes.items(), len(shapes), "measuring"):
        size = 4 * shape[0] * shape[1]
        count = max(1, options.megabytes * 10**6 // size)
        straight = _reader(shape, count, options.rounds, jnp.matmul)
        turned = _reader(shape, count, options.rounds, jnp.inner)
        timing.in_turn(straight, turned, repeats=1)  # a warm-up
        times = timing.in_turn(straight, turned, repeats=options.repeats)
        rates = size * count * options.rounds / np.median(times, axis=0) / 1e9
        table.add_row(
            name,
            f"[{shape[0]}, {shape[1]}]",
            *(f"{rate:.1f}" for rate in rates),
            f"{np.median(times[:, 0] / times[:, 1]):.2f}",
        )
    Console().print(table)


def _reader(
    shape: tuple[int, int], count: int, rounds: int, apply: Callable[[Any, Any], Any]
) -> Callable[[], Any]:
    """Applies `count` kernels, one after the other, to vectors that depend on one another."""
    inputs, outputs = shape
    random = np.random.RandomState(0)
    kernels = [np.float32(random.randn(*shape) / inputs**0.5) for _ in range(count)]
    if apply is jnp.inner:
        kernels = [np.ascontiguousarray(kernel.T) for kernel in kernels]

    def read(kernels: Any, vector: Any) -> Any:
        def go_round(vector: Any, _: None) -> tuple[Any, None]:
            for kernel in kernels:
                product = jnp.tile(apply(vector, kernel), (1, -(-inputs // outputs)))
                vector = 0.5 * vector + 0.5 * product[:, :inputs]
            return vector, None

        return jax.lax.scan(go_round, vector, None, length=rounds)[0]

    vector = np.ones((1, inputs), np.float32)
    options = sampling.compiler_options(jax.default_backend())
    return timing.compile_call(read, kernels, vector, options=options)[0]


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
