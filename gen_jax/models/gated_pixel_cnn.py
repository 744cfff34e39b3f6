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

from typing import NamedTuple

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
from gen_jax.layers.site_layer import Groups, draw_pixel, grown, read_row
from gen_jax.models.shared.autoregressive import AutoregressiveModel
from gen_jax.typing import (
    Array,
    Draw,
    Dtype,
    Float,
    Int,
    Integer,
    Labels,
    Levels,
    SiteParams,
)


class GatedPixelCNN(AutoregressiveModel):
    """Gated PixelCNN: two stacks of gated convolutions, no blind spot.

    van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders". The vertical
    stack reads the rows above, the horizontal one the pixels to the left. Every earlier site is
    seen, given enough layers.
    """

    kernel_size: int = 3
    """Height and width of the convolutions after the first layer; odd."""
    first_kernel_size: int = 7
    """Height and width of the first layer's convolution; odd."""
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
                in_features=self.rounded_features if i else channels,
                features=self.rounded_features,
                kernel_size=self.kernel_size if i else self.first_kernel_size,
                reads_image=i == 0,
                groups=self.sites,
                num_classes=self.num_classes,
                dropout=self.dropout,
                dtype=self.dtype,
            )
            for i in range(self.num_layers)
        ]
        self.head = Head(
            in_features=self.rounded_features,
            hidden=(self.round_up(self.head_features or self.rounded_features),),
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

    def init_carry(self, batch: int, labels: Labels | None = None) -> "GatedPixelCNNCarry":
        columns = self.image_shape[1]
        return GatedPixelCNNCarry(
            tuple(layer.init_carry(columns, batch, labels) for layer in self.layers)
        )

    def begin_block(
        self,
        carry: "GatedPixelCNNCarry",
        block: Integer[Array, ""],
        previous: Integer[Array, "W S B V"],
    ) -> tuple["GatedPixelCNNCarry", "GatedPixelCNNContext"]:
        # Nothing is above row 0: its context is exact zeros, and the vertical stack stays empty.
        return nn.cond(block > 0, _begin_row, _begin_first_row, self, carry, previous)

    def step(
        self, carry: "GatedPixelCNNCarry", context: "GatedPixelCNNContext", draw: Draw
    ) -> "GatedPixelCNNCarry":
        layers = draw_pixel(
            self.layers, self.head, carry.layers, context.maps, context.column, self.scaled(draw)
        )
        return GatedPixelCNNCarry(layers)

    # The block view.

    def block(
        self,
        carry: "GatedPixelCNNCarry",
        context: "GatedPixelCNNContext",
        levels: Integer[Array, "W S B V"],
    ) -> tuple["GatedPixelCNNCarry", Float[Array, "W S B P"]]:
        layers, features = read_row(
            self.layers, self.head, carry.layers, context.maps, self.scale_row(levels)
        )
        return GatedPixelCNNCarry(layers), self.row_params(features)


class GatedCarry(NamedTuple):
    """What a layer reads of the pixels before one."""

    rows: Float[Array, "rows W B I"]
    """Rows above in the vertical stack's input."""
    window: Float[Array, "B SI"]
    """The pixels to the left in the horizontal stack's input, flattened."""
    class_vertical: Float[Array, "B F2"] | None
    """The projection of the class into the vertical gates."""
    class_horizontal: Float[Array, "B F2"] | None
    """And into the horizontal ones."""


class GatedPixelCNNCarry(NamedTuple):
    """What a pixel hands to the next."""

    layers: tuple[GatedCarry, ...]


class GatedPixelCNNContext(NamedTuple):
    """What a row knows before its pixels, or one pixel's share of it."""

    column: Int[Array, "*W"]
    maps: tuple[Float[Array, "*W B F2"], ...]
    """Of each layer, the vertical stack's maps before the gate."""


def _begin_row(
    model: GatedPixelCNN, carry: GatedPixelCNNCarry, previous: Integer[Array, "W S B V"]
) -> tuple[GatedPixelCNNCarry, GatedPixelCNNContext]:
    vertical = model.scale_row(previous)
    carries, maps = [], []
    for layer, layer_carry in zip(model.layers, carry.layers, strict=True):
        layer_carry, vertical, layer_maps = layer.begin_row(layer_carry, vertical)
        carries.append(layer_carry)
        maps.append(layer_maps)
    column = jnp.arange(len(previous))
    return GatedPixelCNNCarry(tuple(carries)), GatedPixelCNNContext(column, tuple(maps))


def _begin_first_row(
    model: GatedPixelCNN, carry: GatedPixelCNNCarry, previous: Integer[Array, "W S B V"]
) -> tuple[GatedPixelCNNCarry, GatedPixelCNNContext]:
    columns, _, batch, _ = previous.shape
    maps = jnp.zeros((columns, batch, 2 * model.rounded_features), model.dtype)
    return carry, GatedPixelCNNContext(jnp.arange(columns), (maps,) * model.num_layers)


class GatedState(NamedTuple):
    """A pixel's way through a layer."""

    carry: GatedCarry
    """As it was before the pixel."""
    maps: Float[Array, "B F2"]
    """The vertical stack's, before the gate."""
    inputs: Groups
    """The pixel's own input groups so far."""
    gated: Groups
    """The horizontal stack's, after the gate."""


class GatedLayer(nn.Module, kw_only=True):
    """One layer of both stacks (van den Oord et al. 2016b, figure 2)."""

    in_features: int
    features: int
    kernel_size: int
    reads_image: bool
    groups: int
    num_classes: int | None
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        n, p = self.kernel_size, self.features
        self.vertical = RowsConv(
            in_features=self.in_features,
            features=2 * p,
            rows=n // 2 + 1,
            columns=n,
            dtype=self.dtype,
        )
        self.horizontal = MaskedConv(
            in_features=self.in_features,
            features=p,
            mask="A" if self.reads_image else "B",
            groups=self.groups,
            side=n // 2,
            parts=2,
            beside=2 * p,
            dtype=self.dtype,
        )
        self.out = MaskedConv(
            in_features=p, features=p, mask="B", groups=self.groups, dtype=self.dtype
        )
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
        return self.drop(
            gate(maps), deterministic=deterministic
        ), out if self.reads_image else out + h

    # Next site.

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> GatedCarry:
        rows = jnp.zeros((self.kernel_size // 2, width, batch, self.in_features), self.dtype)
        window = jnp.zeros((batch, self.kernel_size // 2 * self.in_features), self.dtype)
        if labels is None:
            return GatedCarry(rows, window, None, None)
        return GatedCarry(rows, window, *jnp.split(self.classes(labels), 2, axis=-1))

    def begin_row(
        self, carry: GatedCarry, v: Float[Array, "W B I"]
    ) -> tuple[GatedCarry, Float[Array, "W B F"], Float[Array, "W B F2"]]:
        """From the vertical stack's input at the row above: its output there, and its maps."""
        rows = jnp.concatenate([carry.rows, v[None]])
        maps = self.vertical.row(rows)
        class_v = carry.class_vertical
        output = gate(maps if class_v is None else maps + class_v[None])
        carry = carry._replace(rows=rows[1:], window=jnp.zeros_like(carry.window))
        return carry, output, maps

    def read_row(
        self, carry: GatedCarry, context: Float[Array, "W B F2"], x: Float[Array, "W B I"]
    ) -> tuple[GatedCarry, Float[Array, "W B F"]]:
        gates = self.horizontal.row(x, context)
        if carry.class_horizontal is not None:
            gates = gates + carry.class_horizontal[None]
        out = self.out.row(gate(gates))
        return carry, out if self.reads_image else out + x

    def open_pixel(
        self, carry: GatedCarry, context: Float[Array, "B F2"], column: Int[Array, ""]
    ) -> GatedState:
        return GatedState(carry, context, (), ())

    def site(
        self, s: int, state: GatedState, x: Float[Array, "B G"] | None
    ) -> tuple[GatedState, Float[Array, "B G2"]]:
        carry, inputs = state.carry, grown(state.inputs, x)
        gates = self.horizontal.site(s, carry.window, inputs, state.maps)
        if carry.class_horizontal is not None:
            gates = gates + self.horizontal.pick(carry.class_horizontal, s)
        gated = grown(state.gated, gate(gates))
        out = self.out.site(s, None, gated)
        return state._replace(
            inputs=inputs, gated=gated
        ), out if self.reads_image else out + inputs[s]

    def close_pixel(self, state: GatedState, x: Float[Array, "B G"] | None = None) -> GatedCarry:
        pixel = jnp.concatenate(grown(state.inputs, x), axis=-1)
        return state.carry._replace(window=push(state.carry.window, pixel))
