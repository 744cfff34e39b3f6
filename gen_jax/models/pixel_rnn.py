"""What PixelCNN, Row LSTM and Diagonal BiLSTM share.

A convolution with mask A to 2h maps, layers that each add to those maps, and a head of ReLU and
1 × 1 convolutions (van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural
Networks", table 1).

    p(x) = prod_i p(x_i | x_<i),   sites in raster order, R → G → B inside a pixel

A departure on purpose: a class, where there is one, is projected into the maps of the first
convolution, to which all layers add; in PixelCNN also into every 3 × 3 convolution, as in the
conditional Gated PixelCNN.
"""

import functools
from typing import Any

import jax.numpy as jnp

from gen_jax import checks
from gen_jax.layers.class_conv import ClassConv
from gen_jax.layers.convolution import Head
from gen_jax.models.autoregressive import AutoregressiveModel
from gen_jax.models.pixel_step import step_pixel
from gen_jax.typing import Array, Carry, Context, Draw, Integer, Labels


class PixelRNN(AutoregressiveModel):
    """Base of the three. A subclass gives its `layer` and its whole-image view.

    The next-site view of a layer is `init_carry(width, batch, labels)`, `begin_row(carry)` and
    `pixel(carry, context, column, inputs)` (`gen_jax.models.pixel_step`).
    """

    first_kernel_size: int = 7
    """Of the first convolution, odd."""
    head_features: int | None = None
    """Width of the head's two hidden layers; None for 2h."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("first_kernel_size", self.first_kernel_size, 3, odd=True)
        if self.head_features is not None:
            checks.whole("head_features", self.head_features, 1)

    def layer(self) -> Any:
        """One of the layers between the first convolution and the head."""
        raise NotImplementedError

    def setup(self) -> None:
        groups, width = self.sites, self.width
        self.first = ClassConv(
            self.image_shape[-1],
            2 * width,
            "A",
            groups,
            self.first_kernel_size // 2,
            self.num_classes,
            self.dtype,
        )
        self.layers = [self.layer() for _ in range(self.num_layers)]
        hidden = self.round_up(self.head_features or 2 * width)
        self.head = Head(
            in_features=2 * width,
            hidden=(hidden, hidden),
            features=groups * self.params_per_site,
            groups=groups,
            dtype=self.dtype,
        )

    def init_carry(self, batch: int, labels: Labels | None = None) -> Carry:
        layers = (self.first, *self.layers)
        return [layer.init_carry(self.image_shape[1], batch, labels) for layer in layers]

    def begin_block(
        self, carry: Carry, block: Integer[Array, ""], previous: Integer[Array, "W S B V"]
    ) -> tuple[Carry, Context]:
        del block  # rows above the image are zeros in the carry
        layers = (self.first, *self.layers)
        begun = [
            layer.begin_row(layer_carry) for layer, layer_carry in zip(layers, carry, strict=True)
        ]
        carries, contexts = zip(*begun, strict=True)
        return list(carries), (jnp.arange(len(previous)), list(contexts))

    def step(self, carry: Carry, context: Context, draw: Draw) -> Carry:
        column, contexts = context
        layers = zip((self.first, *self.layers), carry, contexts, strict=True)
        pixels = [functools.partial(layer.pixel, *state, column) for layer, *state in layers]
        return step_pixel(self, pixels, self.head, draw)
