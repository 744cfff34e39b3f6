"""Which sites a stack of masked layers reads, hop by hop."""

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
    image_shape: tuple[int, int, int],
    sites: int,
    entry: Iterable[Hop],
    layers: Iterable[Iterable[Hop]],
) -> Bool[np.ndarray, "H W S H W S"]:
    """`field[r, c, s]` marks the sites that site s of pixel (r, c) depends on.

    One hop of the first layer, which leaves the pixel, then one of each later layer, (0, 0) among
    them where it reads the pixel itself. Of such a pixel all sites are read, and of the pixel
    itself the earlier ones.
    """
    height, width, _ = image_shape
    pixels = np.stack(np.divmod(np.arange(height * width), width), axis=-1)
    back = pixels[:, None] - pixels[None]  # [HW, HW, (up, left)]

    def reads(hops: Iterable[Hop]) -> np.ndarray:
        marked = np.zeros((2 * height - 1, 2 * width - 1), np.float32)
        for up, left in hops:
            if abs(up) < height and abs(left) < width:
                marked[up, left] = 1  # hops to the right and down count from the end
        return marked[back[..., 0], back[..., 1]]

    # Hop by hop inside the image: outside of it features are zero, and no path leads through.
    reach = np.eye(height * width, dtype=np.float32)
    for layer in reversed(list(layers)):
        reach = np.minimum(reach @ reads(layer), 1)
    reach = (reach @ reads(entry) > 0).reshape(height, width, height, width)
    field = np.repeat(np.repeat(reach[:, :, None, :, :, None], sites, axis=2), sites, axis=5)
    for r, c in np.ndindex(height, width):
        field[r, c, :, r, c] = np.tri(sites, k=-1, dtype=bool)
    return field
