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
from gen_jax.layers.site_layer import Groups, draw_pixel, grown
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

    num_layers: int = 7
    """Number of layers."""
    kernel_size: int = 3
    """Height and width of the convolutions after the first layer; odd."""
    first_kernel_size: int = 7
    """Height and width of the first layer's convolution; odd."""
    head_features: int | None = None
    """Width of the head's hidden layer; None for `features`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("num_layers", self.num_layers, 1)
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
        width, features = self.image_shape[1], self.rounded_features
        image_layer, *others = self.layers
        window = jnp.zeros((batch, image_layer.reach * image_layer.in_features), self.dtype)
        reach = others[0].reach if others else 0
        windows = jnp.zeros((len(others), batch, reach * features), self.dtype)
        return GatedPixelCNNCarry(
            tuple(layer.init_carry(width, batch, labels) for layer in self.layers), window, windows
        )

    def begin_block(
        self,
        carry: "GatedPixelCNNCarry",
        block: Integer[Array, ""],
        previous: Integer[Array, "W S B V"],
    ) -> tuple["GatedPixelCNNCarry", "GatedPixelCNNContext"]:
        inside = (block > 0).astype(self.dtype)
        vertical = self.scale_row(previous) * inside
        carries, contexts = [], []
        for layer, layer_carry in zip(self.layers, carry.layers, strict=True):
            layer_carry, vertical, context = layer.begin_row(layer_carry, vertical, inside)
            carries.append(layer_carry)
            contexts.append(context)
        carry = GatedPixelCNNCarry(
            tuple(carries), jnp.zeros_like(carry.window), jnp.zeros_like(carry.windows)
        )
        return carry, GatedPixelCNNContext(jnp.arange(len(previous)), tuple(contexts))

    def step(
        self, carry: "GatedPixelCNNCarry", context: "GatedPixelCNNContext", draw: Draw
    ) -> "GatedPixelCNNCarry":
        # What the pixels to the left say is known before the pixel: one matmul for all layers
        # but the first, which reads the image.
        image_layer, *others = self.layers
        left = [image_layer.horizontal.from_left(carry.window)]
        if others:
            kernels = jnp.stack([layer.horizontal.left_kernel() for layer in others])
            left += list(jnp.einsum("lbi,lio->lbo", carry.windows, kernels))
        drawn, *pixels = draw_pixel(
            image_layer,
            others,
            self.head,
            left,
            context.gates,
            context.column,
            self.scaled(draw),
        )
        window, windows = push(carry.window, drawn), carry.windows
        if pixels:
            windows = push(windows, jnp.stack(pixels))
        return carry._replace(window=window, windows=windows)

    # The block view.

    def block(
        self,
        carry: "GatedPixelCNNCarry",
        context: "GatedPixelCNNContext",
        levels: Integer[Array, "W S B V"],
    ) -> tuple["GatedPixelCNNCarry", Float[Array, "W S B P"]]:
        x = self.scale_row(levels)
        for layer, gates in zip(self.layers, context.gates, strict=True):
            x = layer.row(x, gates)
        return carry, self.row_params(self.head(x[None])[0])


class GatedCarry(NamedTuple):
    """What a layer knows before a row."""

    rows: Float[Array, "rows W B I"]
    """Rows above in the vertical stack's input."""
    class_vertical: Float[Array, "B F2"] | None
    """The projection of the class into the vertical gates."""
    class_horizontal: Float[Array, "B F2"] | None
    """And into the horizontal ones."""


class GatedPixelCNNCarry(NamedTuple):
    """What a pixel hands to the next."""

    layers: tuple[GatedCarry, ...]
    """What each layer knows before a row, the same for all pixels of it."""
    window: Float[Array, "B SI"]
    """The pixels to the left that the first layer reads, flattened."""
    windows: Float[Array, "layers B SI"]
    """Those of each later layer, in the horizontal stack."""


class GatedPixelCNNContext(NamedTuple):
    """What a row knows before its pixels, or one pixel's share of it."""

    column: Int[Array, "*W"]
    """Where in its row each pixel is."""
    gates: tuple[Float[Array, "*W B F2"], ...]
    """Of each layer's horizontal gates, what the vertical stack, the class and the bias say."""


class GatedState(NamedTuple):
    """A pixel's way through a layer."""

    gates: Float[Array, "B F2"]
    """What is known of its horizontal gates before the pixel."""
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
            kernel_height=n // 2 + 1,
            kernel_width=n,
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
            self.classes = ClassEmbedding(
                num_classes=self.num_classes, features=4 * p, dtype=self.dtype
            )

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
        out = out if self.reads_image else out + h
        return self.drop(gate(maps), deterministic=deterministic), out

    # Next site.

    @property
    def reach(self) -> int:
        """Pixels to the left that it reads."""
        return self.kernel_size // 2

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> GatedCarry:
        rows = jnp.zeros((self.reach, width, batch, self.in_features), self.dtype)
        if labels is None:
            return GatedCarry(rows, None, None)
        return GatedCarry(rows, *jnp.split(self.classes(labels), 2, axis=-1))

    def begin_row(
        self, carry: GatedCarry, v: Float[Array, "W B I"], inside: Float[Array, ""]
    ) -> tuple[GatedCarry, Float[Array, "W B F"], Float[Array, "W B F2"]]:
        """From the vertical stack's input at the row above: its output there, and gates below it.

        `inside` is 0 where that row is above the image, and all rows are zeros: no bias, no class.
        """
        rows = jnp.concatenate([carry.rows, v[None]])
        maps = self.vertical.row(rows, inside)
        gates = self.horizontal.from_beside(maps)
        if carry.class_vertical is None:
            return carry._replace(rows=rows[1:]), gate(maps), gates
        assert carry.class_horizontal is not None
        output = gate(maps + (carry.class_vertical * inside)[None])
        return carry._replace(rows=rows[1:]), output, gates + carry.class_horizontal[None]

    def row(self, x: Float[Array, "W B I"], gates: Float[Array, "W B F2"]) -> Array:
        """`site` for all pixels and sites of a row at once, `[W, B, F]`."""
        out = self.out.row(gate(self.horizontal.row_inputs(x) + gates))
        return out if self.reads_image else out + x

    def open_pixel(
        self, carry: Float[Array, "B F2"], context: Float[Array, "B F2"], column: Int[Array, ""]
    ) -> GatedState:
        """`carry` is what the pixels to the left say, `context` the rows above."""
        return GatedState(carry + context, (), ())

    def site(
        self, s: int, state: GatedState, x: Float[Array, "B G"] | None
    ) -> tuple[GatedState, Float[Array, "B G2"]]:
        inputs = grown(state.inputs, x)
        gates = self.horizontal.pick(state.gates, s) + self.horizontal.from_centre(s, inputs)
        gated = grown(state.gated, gate(gates))
        out = self.out.site(s, None, gated)
        out = out if self.reads_image else out + inputs[s]
        return state._replace(inputs=inputs, gated=gated), out

    def close_pixel(
        self, state: GatedState, x: Float[Array, "B G"] | None = None
    ) -> Float[Array, "B I"]:
        """The pixel in the horizontal stack's input."""
        return jnp.concatenate(grown(state.inputs, x), axis=-1)
