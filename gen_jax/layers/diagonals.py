"""A scan over the diagonals of an image, all pixels of a diagonal at once.

Diagonal d holds the pixels (i, d − i). Both neighbours that a pixel needs, (i, d − 1 − i) and
(i − 1, d − i), lie on diagonal d − 1, in rows i and i − 1 (van den Oord et al. 2016, figure 3).

The H + W − 1 diagonals have H · W pixels between them, but a scan computes H rows on each: on a
square image twice what is needed. On a CPU, where arithmetic counts more than the number of steps,
several images stand side by side (`side_by_side`): while a row of one is complete, that of the next
begins.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.typing import Array, Float

# (direction, x, state to the left, state above, c to the left) -> (state, c), each [H, B, …]
Cell = Callable[[int, Array, Array, Array, Array], tuple[Array, Array]]
# (state, c) of each map
States = list[tuple[Array, Array]]


def scan_diagonals(
    cell: Cell, maps: Sequence[Float[Array, "H W B I"]], features: int
) -> list[Float[Array, "H W B F"]]:
    """States of a recurrence from the top left corner over each of `maps`, in one scan.

    To the left of an image and above it, state and c, the LSTM's memory cell, are zero.
    """
    _, width, batch, _ = maps[0].shape

    def scan(count: int) -> list[Array]:
        strips = [side_by_side(x, count) for x in maps]
        states = _scan_strips(cell, strips, width, features)
        return [one_by_one(x, count) for x in states]

    count = images_side_by_side(batch)
    if count == 1:
        return scan(1)
    return jax.lax.platform_dependent(cpu=lambda: scan(count), default=lambda: scan(1))


def images_side_by_side(batch: int) -> int:
    """How many on a CPU: a multiple of eight rows of the batch is left to each.

    Neighbours follow one another in the batch, so that one which is split over 2, 4 or 8 devices
    stays split.
    """
    return max(k for k in (1, 2, 4, 8) if k == 1 or batch % (8 * k) == 0)


def _scan_strips(
    cell: Cell, maps: Sequence[Float[Array, "H kW B_k I"]], width: int, features: int
) -> list[Float[Array, "H kW B_k F"]]:
    """`scan_diagonals` of images of `width` columns side by side."""
    height, columns, batch, _ = maps[0].shape
    dtype = maps[0].dtype
    zeros = jnp.zeros((height, batch, features), dtype)
    column = np.arange(columns + height)[:, None] - np.arange(height)
    # 0 before a row's first column and in it; there is nothing to its left.
    inside = ((column > 0) & (column % width > 0)).astype(dtype)[..., None, None]

    # Each step computes again in the backward pass what it did in the forward one: less to store,
    # and faster for it. `inside` comes a step ahead and through the carry: as a slice of the
    # scan's input it would be fused into the cell by XLA's CPU backend, and the cell not
    # vectorized.
    @jax.checkpoint
    def step(
        carry: tuple[States, Array], inputs: tuple[list[Array], Array]
    ) -> tuple[tuple[States, Array], list[Array]]:
        states, inside = carry
        maps, inside_next = inputs
        new: States = []
        for n, (x, (state, memory)) in enumerate(zip(maps, states, strict=True)):
            above = jnp.pad(state[:-1], ((1, 0), (0, 0), (0, 0)))
            state, memory = cell(n, x, state * inside, above, memory * inside)
            new.append((state, memory))
        return (new, inside_next), [state for state, _ in new]

    xs = ([_skew(x) for x in maps], jnp.asarray(inside[1:]))
    carry = ([(zeros, zeros) for _ in maps], jnp.asarray(inside[0]))
    _, states = jax.lax.scan(step, carry, xs)
    return [_unskew(x) for x in states]


def side_by_side(x: Float[Array, "H W B F"], count: int) -> Float[Array, "H kW B_k F"]:
    """`count` images next to each other."""
    height, width, batch, features = x.shape
    split = x.reshape(height, width, batch // count, count, features)
    return jnp.moveaxis(split, 3, 1).reshape(height, count * width, batch // count, features)


def one_by_one(x: Float[Array, "H kW B_k F"], count: int) -> Float[Array, "H W B F"]:
    """The inverse of `side_by_side`."""
    height, width, batch, features = x.shape
    split = x.reshape(height, count, width // count, batch, features)
    return jnp.moveaxis(split, 1, 3).reshape(height, width // count, batch * count, features)


def _skew(x: Float[Array, "H W B F"]) -> Float[Array, "diagonals H B F"]:
    """Row i moved i columns to the right, zeros around; then column by column."""
    height, width = x.shape[:2]
    flat = jax.lax.collapse(jnp.pad(x, ((0, 0), (0, height), (0, 0), (0, 0))), 0, 2)
    skewed = flat[:-height].reshape(height, height + width - 1, *x.shape[2:])
    return jnp.swapaxes(skewed, 0, 1)


def _unskew(states: Float[Array, "diagonals H B F"]) -> Float[Array, "H W B F"]:
    """Pixel (i, j) from row i of diagonal i + j."""
    diagonals, height = states.shape[:2]
    flat = jnp.swapaxes(states, 0, 1).reshape(height * diagonals, *states.shape[2:])
    flat = jnp.pad(flat, ((0, height), (0, 0), (0, 0)))
    square = flat.reshape(height, diagonals + 1, *states.shape[2:])
    return square[:, : diagonals + 1 - height]
