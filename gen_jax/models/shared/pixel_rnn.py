"""What PixelCNN, Row LSTM and Diagonal BiLSTM share.

A convolution with mask A to 2h maps, layers that each add to those maps, and a head of ReLU and
1 × 1 convolutions (van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural
Networks", table 1).

    p(x) = prod_i p(x_i | x_<i),   sites in raster order, R → G → B inside a pixel

A departure on purpose: a class, where there is one, is projected into the maps of the first
convolution, to which all layers add; in PixelCNN also into every 3 × 3 convolution, as in the
conditional Gated PixelCNN.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from gen_jax import checks
from gen_jax.layers.class_conv import ClassConv, ClassConvCarry
from gen_jax.layers.convolution import Head
from gen_jax.layers.site_layer import RowLayer, SiteLayer, draw_pixel, read_row
from gen_jax.models.shared.autoregressive import AutoregressiveModel
from gen_jax.typing import Array, Carry, Context, Draw, Float, Int, Integer, Labels, PyTree


class PixelRNNCarry(NamedTuple):
    """What a pixel hands to the next."""

    first_conv: ClassConvCarry
    """That of the first convolution."""
    layers: tuple[Carry, ...]
    """Those of the layers."""


class PixelRNNContext(NamedTuple):
    """What a row knows before its pixels, or one pixel's share of it."""

    column: Int[Array, "*W"]
    """Where in its row each pixel is."""
    first_conv: Float[Array, "*W B F2"]
    """For the first convolution: the rows above."""
    layers: tuple[Context, ...]
    """For the layers."""


class PixelRNN(AutoregressiveModel):
    """Base of the three. A subclass gives its `layer` and its whole-image view.

    `init_carry` and `begin_block` are for layers that are a `RowLayer`, `read_row` for those that
    are a `ReadingLayer`; a subclass whose layers are no more than a `SiteLayer` has its own.
    """

    num_layers: int = 7
    """Number of layers; the first convolution is not one of them."""
    first_kernel_size: int = 7
    """Height and width of the first convolution, before its mask; odd."""
    head_features: int | None = None
    """Features of the head's two hidden layers; None for 2 · features."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("num_layers", self.num_layers, 1)
        checks.whole("first_kernel_size", self.first_kernel_size, 3, odd=True)
        if self.head_features is not None:
            checks.whole("head_features", self.head_features, 1)

    def layer(self) -> SiteLayer[Carry, Context, PyTree]:
        """One of the layers between the first convolution and the head."""
        raise NotImplementedError

    def setup(self) -> None:
        groups, features = self.sites, self.rounded_features
        self.first = ClassConv(
            in_features=self.image_shape[-1],
            features=2 * features,
            mask="A",
            groups=groups,
            reach=self.first_kernel_size // 2,
            num_classes=self.num_classes,
            dtype=self.dtype,
        )
        # The subclass knows of what type, and calls what other layers do not have.
        self.layers: Sequence[Any] = [self.layer() for _ in range(self.num_layers)]
        hidden = self.round_up(self.head_features or 2 * features)
        self.head = Head(
            in_features=2 * features,
            hidden=(hidden, hidden),
            features=groups * self.params_per_site,
            groups=groups,
            dtype=self.dtype,
        )

    def init_carry(self, batch: int, labels: Labels | None = None) -> PixelRNNCarry:
        layers: tuple[RowLayer[Carry, Context, PyTree], ...] = (self.first, *self.layers)
        first_conv, *others = (
            layer.init_carry(self.image_shape[1], batch, labels) for layer in layers
        )
        return PixelRNNCarry(first_conv, tuple(others))

    def begin_block(
        self, carry: PixelRNNCarry, block: Integer[Array, ""], previous: Integer[Array, "W S B V"]
    ) -> tuple[PixelRNNCarry, PixelRNNContext]:
        # Rows above the image are zeros in the carry.
        first_conv, context = self.first.begin_row(carry.first_conv)
        layers: Sequence[RowLayer[Carry, Context, PyTree]] = self.layers
        begun = [
            layer.begin_row(layer_carry)
            for layer, layer_carry in zip(layers, carry.layers, strict=True)
        ]
        carries, contexts = zip(*begun, strict=True)
        column = jnp.arange(len(previous))
        return PixelRNNCarry(first_conv, carries), PixelRNNContext(column, context, contexts)

    def step(self, carry: PixelRNNCarry, context: PixelRNNContext, draw: Draw) -> PixelRNNCarry:
        first_conv, *layers = draw_pixel(
            self.first,
            self.layers,
            self.head,
            (carry.first_conv, *carry.layers),
            (context.first_conv, *context.layers),
            context.column,
            self.scaled(draw),
        )
        return PixelRNNCarry(first_conv, tuple(layers))

    def read_row(
        self, carry: PixelRNNCarry, context: PixelRNNContext, levels: Integer[Array, "W S B V"]
    ) -> tuple[PixelRNNCarry, Float[Array, "W S B P"]]:
        """`block`, for models whose layers have a `read_row`."""
        (first_conv, *layers), features = read_row(
            (self.first, *self.layers),
            self.head,
            (carry.first_conv, *carry.layers),
            (context.first_conv, *context.layers),
            self.scale_row(levels),
        )
        return PixelRNNCarry(first_conv, tuple(layers)), self.row_params(features)
