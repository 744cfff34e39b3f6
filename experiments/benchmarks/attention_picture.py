"""What one site attends to, in each kind of attention."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gen_jax import figures
from gen_jax.layers.query_blocks import QueryBlocks
from gen_jax.scripts import cli

_REGIONS = {
    "yet to come": "#f0f0f0",
    "before, not seen": "#b8bec8",
    "memory": "#7fb3d5",
    "its own block": "#1f618d",
    "the site": "#e74c3c",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to draw: an image of one site a pixel."""

    image_size: int = 32
    """Height and width."""
    site: tuple[int, int] = (19, 13)
    """Row and column."""
    query_block: tuple[int, int] = (8, 8)
    """Of local_2d; local_1d takes as many sites."""
    flange: tuple[int, int] = (8, 8)
    """Of local_2d."""
    output: str = "docs/attention.png"
    """The picture."""


def main(arguments: Sequence[str]) -> None:
    """Parses, draws, says where."""
    options = cli.parse(Options, "python -m experiments.benchmarks.attention_picture", arguments)
    cli.check_counts(image_size=options.image_size, query_block=options.query_block)
    side, (row, column) = options.image_size, options.site
    if not (0 <= row < side and 0 <= column < side) or min(options.flange) < 0:
        raise ValueError(
            f"site is {options.site} and flange {options.flange}; accepted: a row and a column "
            f"in 0 … {side - 1}, and sizes of at least 0"
        )
    site = row * side + column
    panels = {}
    for kind in ("local_1d", "local_2d", "full"):
        blocks = QueryBlocks(kind, side, side, options.query_block, options.flange)
        rank = np.argsort(blocks.order)
        own = blocks.cells[np.any(blocks.cells == site, axis=1)][0]
        seen = blocks.seen()[site]
        regions = np.where(rank < rank[site], 1, 0)
        regions[seen] = 2
        if kind != "full":  # a block there is nothing but bookkeeping
            regions[np.intersect1d(own, np.flatnonzero(seen))] = 3
        regions[site] = 4
        panels[kind] = regions.reshape(side, side)
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    print(f"wrote {figures.save_regions(panels, _REGIONS, options.output)}")


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
