"""PixelCNN++: when each resolution is computed, and what each has read for one pixel."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gen_jax import figures
from gen_jax.scripts import cli

_REGIONS = {
    "yet to come": "#f0f0f0",
    "full resolution": "#b8bec8",
    "half": "#7fb3d5",
    "a quarter": "#1f618d",
    "the pixel": "#e74c3c",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to draw."""

    image_size: int = 16
    """Height and width; a multiple of 4."""
    pixel: tuple[int, int] = (11, 7)
    """Row and column of the pixel being drawn."""
    output: str = "docs/pixelcnn-pp.png"
    """The picture."""


def main(arguments: Sequence[str]) -> None:
    """Parses, draws, says where."""
    options = cli.parse(Options, "python -m experiments.benchmarks.pixel_cnn_pp_picture", arguments)
    cli.check_counts(image_size=options.image_size)
    side, (row, column) = options.image_size, options.pixel
    if side % 4 or not (0 <= row < side and 0 <= column < side):
        raise ValueError(
            f"image_size is {side} and pixel {options.pixel}; accepted: a multiple of 4, and a row "
            "and a column in it"
        )
    panels = {
        "computed at each pixel": lowest_computed(side),
        "has read each pixel, for one": lowest_read(side, row, column),
    }
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    print(f"wrote {figures.save_regions(panels, _REGIONS, options.output)}")


def lowest_computed(side: int) -> np.ndarray:
    """Half: at the first pixel of each 2 × 2 block; a quarter: of each 4 × 4."""
    rows, columns = np.indices((side, side))
    regions = np.ones((side, side), int)
    for region, block in ((2, 2), (3, 4)):
        regions[(rows % block == 0) & (columns % block == 0)] = region
    return regions


def lowest_read(side: int, row: int, column: int) -> np.ndarray:
    """Each site over the pixel has read what is before its own first one, in raster order."""
    order = np.arange(side * side).reshape(side, side)
    regions = np.zeros((side, side), int)
    for region, block in ((1, 1), (2, 2), (3, 4)):
        regions[order < order[row - row % block, column - column % block]] = region
    regions[row, column] = 4
    return regions


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
