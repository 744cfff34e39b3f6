"""A scan over the diagonals of an image, all pixels of a diagonal at once.

Diagonal d holds the pixels (i, d − i). Both neighbours that a pixel needs, (i, d − 1 − i) and
(i − 1, d − i), lie on diagonal d − 1, in rows i and i − 1 (van den Oord et al. 2016, figure 3).
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.typing import Array, Carry, Float

# Cell = (direction, x [R, B, F], (state, cell), inside [R, 1, 1]) -> (state, cell)
Cell = Callable[[int, Array, Carry, Array], Carry]


def scan_diagonals(
    cell: Cell, maps: Sequence[Float[Array, "H W B I"]], features: int
) -> list[Float[Array, "H W B F"]]:
    """States of a recurrence from the top left corner over each of `maps`, in one scan.

    The diagonals near the corners are short. One scan over skewed maps would compute H rows on all
    H + W − 1 of them, twice the pixels; here a few scans follow one another, each with the rows
    that its diagonals can reach (`_segments`). A row's state stays zero until its first pixel.
    """
    height, width, batch, _ = maps[0].shape
    pieces: list[list[Array]] = [[] for _ in maps]
    empty = jnp.zeros((0, batch, features), maps[0].dtype)
    carry = [(empty, empty) for _ in maps]
    top = bottom = 0
    for start, stop in _segments(height, width):
        # Row start − width is complete, but the first diagonal still reads its last state.
        first, last = max(0, start - width), min(height, stop)

        def move(x: Array, top: int = first - top, bottom: int = last - bottom) -> Array:
            return jnp.pad(x[top:], ((0, bottom), (0, 0), (0, 0)))

        carry = jax.tree.map(move, carry)
        top, bottom = first, last
        columns = np.arange(start, stop)[:, None] - np.arange(top, bottom)
        inside = ((columns >= 0) & (columns < width)).astype(maps[0].dtype)[..., None, None]
        xs = [_skew(x, start, stop, top, bottom) for x in maps]
        carry, states = _scan(cell, carry, xs, jnp.asarray(inside))
        sides = ((0, 0), (top, height - bottom), (0, 0), (0, 0))
        for piece, state in zip(pieces, states, strict=True):
            piece.append(jnp.pad(state, sides))
    return [_unskew(jnp.concatenate(piece), width) for piece in pieces]


def _scan(cell: Cell, carry: Carry, maps: list[Array], inside: Array) -> tuple[Carry, list[Array]]:
    # Each step computes again in the backward pass what it did in the forward one: less to store,
    # and faster for it. `inside` comes a step ahead and through the carry: as a slice of the
    # scan's input it would be fused into the cell by XLA's CPU backend, and the cell not
    # vectorized.
    @jax.checkpoint
    def step(carry: Carry, inputs: Carry) -> tuple[Carry, list[Array]]:
        carry, inside = carry
        maps, inside_next = inputs
        carry = [cell(n, x, c, inside) for n, (x, c) in enumerate(zip(maps, carry, strict=True))]
        return (carry, inside_next), [state for state, _ in carry]

    ahead = jnp.roll(inside, -1, axis=0)
    (carry, _), states = jax.lax.scan(step, (carry, inside[0]), (maps, ahead))
    return carry, states


def _segments(height: int, width: int) -> list[tuple[int, int]]:
    """Runs of diagonals, `(start, stop)`: short ones at both ends, one long one between."""
    diagonals, shorter = height + width - 1, min(height, width)
    length = max(4, -(-shorter // 4))
    bounds = list(range(0, shorter, length))
    bounds += [diagonals - start for start in reversed(bounds)]
    return list(itertools.pairwise(bounds))


def _skew(
    x: Float[Array, "H W B F"], start: int, stop: int, top: int, bottom: int
) -> Float[Array, "D R B F"]:
    """Diagonals start … stop − 1 in rows top … bottom − 1; zero outside the image."""
    width, count, rows = x.shape[1], stop - start, bottom - top
    # The window of columns that these diagonals cross in these rows; row r of it begins r columns
    # too far to the left, which reading it in rows that are one shorter puts right.
    window, left = count + rows, start - bottom + 1
    inner = x[top:bottom, max(0, left) : max(0, min(width, left + window))]
    sides = (max(0, -left), window - inner.shape[1] - max(0, -left))
    flat = jnp.pad(inner, ((0, 0), sides, (0, 0), (0, 0))).reshape(rows * window, *x.shape[2:])
    flat = flat[rows - 1 : rows - 1 + rows * (window - 1)]
    return jnp.swapaxes(flat.reshape(rows, window - 1, *x.shape[2:])[:, :count], 0, 1)


def _unskew(states: Float[Array, "D H B F"], width: int) -> Float[Array, "H W B F"]:
    """Pixel (i, j) from row i of diagonal i + j."""
    diagonals, height = states.shape[:2]
    flat = jnp.swapaxes(states, 0, 1).reshape(height * diagonals, *states.shape[2:])
    flat = jnp.pad(flat, ((0, height), (0, 0), (0, 0)))
    return flat.reshape(height, diagonals + 1, *states.shape[2:])[:, :width]
