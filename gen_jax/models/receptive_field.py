"""Which pixels a stack of masked layers reads, hop by hop."""

from collections.abc import Iterable

import numpy as np

from gen_jax.typing import Bool

Hop = tuple[int, int]
"""(rows up, columns to the left) that one layer's output looks back."""


def hops(reach: int) -> set[Hop]:
    """The open taps of a masked (2 · reach + 1)² kernel, the centre apart."""
    above = {(up, left) for up in range(1, reach + 1) for left in range(-reach, reach + 1)}
    return above | {(0, left) for left in range(1, reach + 1)}


def receptive_field(
    image_shape: tuple[int, int, int], first: Iterable[Hop], layers: Iterable[Iterable[Hop]]
) -> Bool[np.ndarray, "H W H W"]:
    """`field[r, c]` marks the pixels that pixel (r, c) depends on.

    One hop of the first layer, which leaves the pixel, then one of each later layer, (0, 0) among
    them where it reads the pixel itself. (The pixel's own earlier channel groups are read too,
    wherever the field is about whole pixels.)
    """
    height, width, _ = image_shape
    reach = set(first)
    for layer in layers:
        reach = {
            (up + hop_up, left + hop_left)
            for up, left in reach
            for hop_up, hop_left in layer
            if up + hop_up < height and abs(left + hop_left) < width
        }
    field = np.zeros((height, width, height, width), bool)
    for r, c in np.ndindex(height, width):
        for up, left in reach:
            if r - up >= 0 and 0 <= c - left < width:
                field[r, c, r - up, c - left] = True
    return field
