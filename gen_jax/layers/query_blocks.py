"""Where self-attention looks: query blocks and their memory (Parmar et al. 2018, §3.3).

The sites of an image lie on a grid and are generated a query block at a time: blocks in raster
order, cells in raster order inside a block. A cell attends to its own block up to itself, and to
the block's memory, all of which was generated before:

* full:      everything before the block;
* local_1d:  the grid is one row, blocks are runs of it; the memory is the whole block before;
* local_2d:  the grid has a row for each image row, blocks are rectangles; the memory is a flange
             above, which extends to both sides, and a flange to the left.

So local_1d is local_2d on one row, with a flange of one block to the left. All of it is NumPy,
known before anything is traced.
"""

import dataclasses
import functools
import itertools
import math
from typing import Literal, TypeAlias

import numpy as np

from gen_jax.typing import Bool, Int

Attention: TypeAlias = Literal["local_1d", "local_2d", "full"]

_MOST_WASTE = 1.05  # steps to sites: blocks at the edges may be cut off


@dataclasses.dataclass(frozen=True)
class QueryBlocks:
    """The blocks of an image with `num_rows` rows of `num_columns` sites each."""

    attention: Attention
    num_rows: int
    num_columns: int
    query_block: tuple[int, int] = (16, 16)
    """Asked for, in sites; full and local_1d take the product. `size` is what it became."""
    flange: tuple[int, int] = (16, 32)
    """Sites above and to the sides that local_2d remembers; `reach` is what it became."""

    @functools.cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns that blocks are cut from."""
        sites = self.num_rows * self.num_columns
        return (self.num_rows, self.num_columns) if self.attention == "local_2d" else (1, sites)

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a block.

        As near to what was asked for, in ratio, as blocks can be whose steps exceed the sites by
        5 % at most.
        """
        asked = {
            "full": (1, math.prod(self.query_block)),
            "local_1d": (1, math.prod(self.query_block)),
            "local_2d": self.query_block,
        }
        return _even(self.grid, asked[self.attention])

    @functools.cached_property
    def counts(self) -> tuple[int, int]:
        """Blocks on top of each other, and side by side."""
        down, across = (-(-n // size) for n, size in zip(self.grid, self.size, strict=True))
        return down, across

    @functools.cached_property
    def reach(self) -> tuple[int, int]:
        """Of the flange: cells above a block, and to its sides."""
        most = [size * (n - 1) for size, n in zip(self.size, self.counts, strict=True)]
        asked = {
            "full": (0, most[1]),
            "local_1d": (0, self.size[1]),
            "local_2d": self.flange,
        }[self.attention]
        return min(asked[0], most[0]), min(asked[1], most[1])

    @functools.cached_property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Cells around the grid, so that every block and flange lies inside."""
        height, width = (size * n for size, n in zip(self.size, self.counts, strict=True))
        above, aside = self.reach
        return (above, height - self.grid[0]), (aside, aside + width - self.grid[1])

    @functools.cached_property
    def corners(self) -> Int[np.ndarray, "blocks 2"]:
        """Row and column of each block's first cell."""
        starts = [range(0, n * size, size) for n, size in zip(self.counts, self.size, strict=True)]
        return np.array(list(itertools.product(*starts)))

    @functools.cached_property
    def cells(self) -> Int[np.ndarray, "blocks steps"]:
        """Sites in generation order, by their place in raster order; −1 pads."""
        height, width = self.size
        above, aside = self.reach
        return self._cut((above, aside), (height, width))

    @functools.cached_property
    def memory(self) -> Int[np.ndarray, "blocks slots"]:
        """What each block remembers: the flange above, then that to the left; −1 pads."""
        (height, width), (above, aside) = self.size, self.reach
        return np.concatenate(
            [
                self._cut((0, 0), (above, width + 2 * aside)),
                self._cut((above, 0), (height, aside)),
            ],
            axis=1,
        )

    @functools.cached_property
    def order(self) -> Int[np.ndarray, " sites"]:
        """Sites in generation order."""
        return self.cells[self.cells >= 0]

    def seen(self) -> Bool[np.ndarray, "sites sites"]:
        """`seen[n, m]`: in one layer, site n attends to the key at site m."""
        result = np.zeros((self.order.size, self.order.size), bool)
        for own, memory in zip(self.cells, self.memory, strict=True):
            own, memory = own[own >= 0], memory[memory >= 0]
            result[np.ix_(own, memory)] = True
            result[np.ix_(own, own)] = np.tri(len(own), dtype=bool)
        return result

    def _cut(self, offset: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
        """A rectangle of the padded grid at each block's corner, flattened."""
        grid = np.arange(math.prod(self.grid), dtype=np.int32).reshape(self.grid)
        grid = np.pad(grid, self.padding, constant_values=-1)
        starts = self.corners + np.array(offset)
        cut = [grid[r : r + shape[0], c : c + shape[1]].reshape(-1) for r, c in starts]
        return np.stack(cut)


@functools.cache
def _even(lengths: tuple[int, int], asked: tuple[int, int]) -> tuple[int, int]:
    """The block size nearest to `asked` that wastes at most 5 % of the steps."""

    def candidates(length: int, asked: int) -> list[tuple[float, int, int]]:
        asked = min(asked, length)
        sizes = {-(-length // count) for count in range(1, length + 1)} | {asked}
        return [(abs(math.log(n / asked)), n, -(-length // n) * n) for n in sizes]

    most = _MOST_WASTE * math.prod(lengths)
    choices = itertools.product(*map(candidates, lengths, asked))
    allowed = [c for c in choices if c[0][2] * c[1][2] <= most]
    height, width = min(allowed, key=lambda c: (c[0][0] + c[1][0], c[0][1], c[1][1]))
    return height[1], width[1]
