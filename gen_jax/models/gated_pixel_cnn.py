"""Gated PixelCNN (van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders").

    p(x | y) = prod_i p(x_i | x_<i, y),   sites in raster order, R → G → B inside a pixel

Two stacks, no blind spot. The vertical stack reads all rows above through unmasked n × n
convolutions; the horizontal stack reads the pixels to the left, the pixel's own earlier channel
groups, and the vertical stack's pre-gate maps through a 1 × 1 convolution. Each layer gates
tanh · σ. The residual is in the horizontal stack only, and not in the first (mask A) layer. A
class is projected into both halves of both gates.

The vertical maps at row r are computed from rows ≤ r and shifted down one row on their way into
the horizontal stack, so that row 0 receives exact zeros there.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from gen_jax import checks
from gen_jax.layers.class_embedding import ClassEmbedding
from gen_jax.layers.convolution import (
    Head,
    MaskedConv,
    RowsConv,
    gate,
    push,
    shift_down,
)
from gen_jax.models.autoregressive import AutoregressiveModel
from gen_jax.models.pixel_step import step_pixel
from gen_jax.typing import (
    Array,
    Carry,
    Context,
    Draw,
    Dtype,
    Float,
    Integer,
    Labels,
    Levels,
    SiteParams,
)


class GatedPixelCNN(AutoregressiveModel):
    """Gated PixelCNN: gated convolutions in a vertical and a horizontal stack, no blind spot."""

    kernel_size: int = 3
    """n of the layers' n × n convolutions, odd."""
    first_kernel_size: int = 7
    """n of the first layer, odd."""
    head_features: int | None = None
    """Width of the head's hidden layer; None for `features`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("kernel_size", self.kernel_size, 3, odd=True)
        checks.whole("first_kernel_size", self.first_kernel_size, 3, odd=True)
        if self.head_features is not None:
            checks.whole("head_features", self.head_features, 1)

    def setup(self) -> None:
        channels = self.image_shape[-1]
        self.layers = [
            GatedLayer(
                in_features=self.width if i else channels,
                features=self.width,
                kernel_size=self.kernel_size if i else self.first_kernel_size,
                first=i == 0,
                groups=self.sites,
                num_classes=self.num_classes,
                dropout=self.dropout,
                dtype=self.dtype,
            )
            for i in range(self.num_layers)
        ]
        self.head = Head(
            in_features=self.width,
            hidden=(self.round_up(self.head_features or self.width),),
            features=self.sites * self.params_per_site,
            groups=self.sites,
            dtype=self.dtype,
        )

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        images, labels = self.check(images, labels)
        vertical = horizontal = self.scale(jnp.asarray(images))
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal, labels)
        return self.site_params(self.head(horizontal), images, labels)

    def init_carry(self, batch: int, labels: Labels | None = None) -> Carry:
        return [layer.init_carry(self.image_shape[1], batch, labels) for layer in self.layers]

    def begin_block(
        self, carry: Carry, block: Integer[Array, ""], previous: Integer[Array, "W S B V"]
    ) -> tuple[Carry, Context]:
        # Nothing is above row 0: its context is exact zeros, and the vertical stack stays empty.
        return nn.cond(block > 0, _begin_row, _begin_first_row, self, carry, previous)

    def step(self, carry: Carry, context: Context, draw: Draw) -> Carry:
        layers = zip(self.layers, carry, context, strict=True)
        pixels = [functools.partial(layer.pixel, *state) for layer, *state in layers]
        return step_pixel(self, pixels, self.head, draw)


def _begin_row(
    model: GatedPixelCNN, carry: Carry, previous: Integer[Array, "W S B V"]
) -> tuple[Carry, Context]:
    vertical = model.scale_row(previous)
    carries, contexts = [], []
    for layer, layer_carry in zip(model.layers, carry, strict=True):
        layer_carry, vertical, context = layer.begin_row(layer_carry, vertical)
        carries.append(layer_carry)
        contexts.append(context)
    return carries, contexts


def _begin_first_row(
    model: GatedPixelCNN, carry: Carry, previous: Integer[Array, "W S B V"]
) -> tuple[Carry, Context]:
    columns, _, batch, _ = previous.shape
    maps = jnp.zeros((columns, batch, 2 * model.width), model.dtype)
    return carry, [maps for _ in model.layers]


class GatedLayer(nn.Module):
    """One layer of both stacks (van den Oord et al. 2016b, figure 2)."""

    in_features: int
    features: int
    kernel_size: int
    first: bool
    groups: int
    num_classes: int | None
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        n, p = self.kernel_size, self.features
        self.vertical = RowsConv(self.in_features, 2 * p, n // 2 + 1, n, self.dtype)
        self.horizontal = MaskedConv(
            self.in_features,
            p,
            "A" if self.first else "B",
            self.groups,
            side=n // 2,
            parts=2,
            beside=2 * p,
            dtype=self.dtype,
        )
        self.out = MaskedConv(p, p, "B", self.groups, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout)
        if self.num_classes is not None:
            self.classes = ClassEmbedding(self.num_classes, 4 * p, self.dtype)

    # Whole image.

    def __call__(
        self, v: Float[Array, "B H W I"], h: Float[Array, "B H W I"], labels: Labels | None
    ) -> tuple[Float[Array, "B H W F"], Float[Array, "B H W F"]]:
        deterministic = not self.has_rng("dropout")
        maps = self.vertical(v)
        gates = self.horizontal(h, shift_down(maps))
        if self.num_classes is not None:
            class_v, class_h = jnp.split(self.classes(labels)[:, None, None, :], 2, axis=-1)
            maps, gates = maps + class_v, gates + class_h
        out = self.out(self.drop(gate(gates), deterministic=deterministic))
        return self.drop(gate(maps), deterministic=deterministic), out if self.first else out + h

    # Next site. The carry: rows above for the vertical stack, pixels to the left for the
    # horizontal one, and the class projections.

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> Carry:
        rows = jnp.zeros((self.kernel_size // 2, width, batch, self.in_features), self.dtype)
        window = jnp.zeros((batch, self.kernel_size // 2 * self.in_features), self.dtype)
        classes = None if labels is None else jnp.split(self.classes(labels), 2, axis=-1)
        return rows, window, classes

    def begin_row(
        self, carry: Carry, v: Float[Array, "W B I"]
    ) -> tuple[Carry, Float[Array, "W B F"], Float[Array, "W B F2"]]:
        """From the vertical stack's input at the row above: its output there, and its maps."""
        rows, window, classes = carry
        rows = jnp.concatenate([rows, v[None]])
        maps = self.vertical.row(rows)
        output = gate(maps if classes is None else maps + classes[0][None])
        return (rows[1:], jnp.zeros_like(window), classes), output, maps

    def pixel(
        self, carry: Carry, maps: Float[Array, "B F2"], inputs: list[Array]
    ) -> tuple[Callable[[int], None], list[Array], Callable[[], Carry]]:
        """One pixel: `group(s)` appends output group s; `finish()` gives the next carry."""
        rows, window, classes = carry
        gated: list[Array] = []
        outputs: list[Array] = []

        def group(s: int) -> None:
            gates = self.horizontal.group(s, window, inputs, maps)
            if classes is not None:
                gates = gates + self.horizontal.pick(classes[1], s)
            gated.append(gate(gates))
            out = self.out.group(s, None, gated)
            outputs.append(out if self.first else out + inputs[s])

        def finish() -> Carry:
            return rows, push(window, jnp.concatenate(inputs, axis=-1)), classes

        return group, outputs, finish
