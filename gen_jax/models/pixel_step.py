"""One pixel through a stack of layers: what the next-site views of the convolutional and the
recurrent models share.

A layer's `pixel(…, inputs)` takes the list of its input groups, which grows as sites are drawn, and
gives `group(s)` to append output group s, the list of its output groups, and `finish()` for its
next carry. So the sites of a pixel are drawn one after the other, each through all layers, and
nothing is computed twice.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gen_jax.models.autoregressive import AutoregressiveModel
from gen_jax.typing import Array, Carry, Draw

Pixel = Callable[[list[Array]], tuple[Callable[[int], None], list[Array], Callable[[], Carry]]]


def step_pixel(
    model: AutoregressiveModel, pixels: Sequence[Pixel], head: Any, draw: Draw
) -> list[Carry]:
    """Draws the sites of a pixel; the next carry of every layer. `pixels` are of the layers."""
    levels: list[Array] = []
    outputs, advance, finish = levels, [], []
    for pixel in pixels:
        group, outputs, done = pixel(outputs)
        advance.append(group)
        finish.append(done)
    params = head.pixel(outputs)
    for s in range(model.sites):
        for group in advance:
            group(s)
        levels.append(model.scale(draw(s, model.site_vector(params(s)))))
    return [done() for done in finish]
