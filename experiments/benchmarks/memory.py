"""How does memory grow with the image? `python -m experiments.benchmarks.memory`.

The temporary memory of a training step's gradient, from the compiled program's own analysis, for an
Image Transformer with each kind of attention at several image sizes. Nothing is run.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from gen_jax import likelihoods, models, objectives
from gen_jax.layers.query_blocks import Attention
from gen_jax.scripts import cli


@dataclasses.dataclass(frozen=True)
class Options:
    """What to compile."""

    image_sizes: tuple[int, ...] = (28, 56, 112)
    """Heights (and widths), of one binary channel."""
    attentions: tuple[Attention, ...] = ("local_1d", "local_2d", "full")
    """Kinds of attention."""
    num_layers: int = 2
    """Depth; 64 features, 4 heads."""


def main(arguments: Sequence[str]) -> None:
    """Parses, compiles, prints a table."""
    options = cli.parse(Options, "python -m experiments.benchmarks.memory", arguments)
    cli.check_counts(image_sizes=options.image_sizes, num_layers=options.num_layers)
    table = Table(title="MiB for the gradient of one image, and bytes a site")
    for column in ("attention", "image", "sites", "MiB", "bytes a site"):
        table.add_column(column, justify="left" if column == "attention" else "right")
    cases = [(kind, size) for kind in options.attentions for size in options.image_sizes]
    for kind, size in cli.track(cases, len(cases), "compiling"):
        fields: dict[str, Any] = {"attention": kind, "num_layers": options.num_layers}
        model = models.ImageTransformer((size, size, 1), likelihoods.Bernoulli(), **fields)
        needed = _temporary_bytes(model)
        table.add_row(
            kind,
            f"{size} x {size}",
            str(size**2),
            f"{needed / 2**20:.1f}",
            f"{needed / size**2:.0f}",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _temporary_bytes(model: Any) -> int:
    images = jax.ShapeDtypeStruct((1, *model.image_shape), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def loss(variables: Any, images: Any) -> Any:
        return -jnp.sum(objectives.log_likelihood(model, variables, images))

    compiled = jax.jit(jax.grad(loss)).lower(variables, images).compile()
    analysis: Any = compiled.memory_analysis()
    return analysis.temp_size_in_bytes


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
