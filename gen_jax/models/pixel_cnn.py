"""PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks").

    p(x) = prod_i p(x_i | x_<i),   sites in raster order, R → G → B inside a pixel

One stack of masked convolutions: 7 × 7 with mask A, then residual blocks of ReLU 1 × 1, 3 × 3,
1 × 1 with mask B. It has a **blind spot**: through any number of layers, a pixel to the right in
the rows above is seen only within a cone (`receptive_field` says which). `GatedPixelCNN` has none.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import checks
from gen_jax.layers.class_conv import ClassConv, ClassConvCarry, ClassConvState
from gen_jax.layers.convolution import MaskedConv
from gen_jax.layers.site_layer import Groups, grown
from gen_jax.models.shared.pixel_rnn import PixelRNN, PixelRNNCarry, PixelRNNContext
from gen_jax.models.shared.receptive_field import hops, receptive_field
from gen_jax.typing import Array, Dtype, Float, Int, Integer, Labels, Levels, SiteParams


class PixelCNN(PixelRNN):
    """PixelCNN: one stack of masked convolutions, with a blind spot (`receptive_field`).

    van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", table 1.
    `features` is h: the stack carries 2h maps.
    """

    kernel_size: int = 3
    """Height and width of the residual blocks' masked convolutions; odd."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("kernel_size", self.kernel_size, 3, odd=True)

    def layer(self) -> "ResidualBlock":
        return ResidualBlock(
            features=self.rounded_features,
            kernel_size=self.kernel_size,
            groups=self.sites,
            num_classes=self.num_classes,
            dropout=self.dropout,
            dtype=self.dtype,
        )

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        images, labels = self.check(images, labels)
        x = self.first(self.scale(jnp.asarray(images)), labels)
        for layer in self.layers:
            x = layer(x, labels)
        return self.site_params(self.head(x), images, labels)

    def block(
        self, carry: PixelRNNCarry, context: PixelRNNContext, levels: Integer[Array, "W S B V"]
    ) -> tuple[PixelRNNCarry, Float[Array, "W S B P"]]:
        return self.read_row(carry, context, levels)

    def receptive_field(self) -> np.ndarray:
        """bool [H, W, S, H, W, S]: `field[r, c, s]` marks what site s of pixel (r, c) depends on.

        Earlier sites that it leaves out are the blind spot.
        """
        entry = hops(self.first_kernel_size // 2)
        block = {*hops(self.kernel_size // 2), (0, 0)}
        return receptive_field(self.image_shape, self.sites, entry, [block] * self.num_layers)


class ResidualState(NamedTuple):
    """A pixel's way through a residual block."""

    rectified: Groups
    """Inputs of the first 1 × 1."""
    conv: ClassConvState
    """Of the 3 × 3."""
    activated: Groups
    """Inputs of the last 1 × 1."""


class ResidualBlock(nn.Module, kw_only=True):
    """ReLU 1 × 1 (2h → h), ReLU 3 × 3 (h → h), ReLU 1 × 1 (h → 2h), added to the input."""

    features: int
    kernel_size: int
    groups: int
    num_classes: int | None
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        h, groups, dtype = self.features, self.groups, self.dtype
        self.down = MaskedConv(in_features=2 * h, features=h, mask="B", groups=groups, dtype=dtype)
        self.conv = ClassConv(
            in_features=h,
            features=h,
            mask="B",
            groups=groups,
            reach=self.kernel_size // 2,
            num_classes=self.num_classes,
            dtype=dtype,
        )
        self.up = MaskedConv(in_features=h, features=2 * h, mask="B", groups=groups, dtype=dtype)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, x: Float[Array, "B H W I"], labels: Labels | None) -> Array:
        hidden = jax.nn.relu(self.down(jax.nn.relu(x)))
        hidden = jax.nn.relu(self.conv(hidden, labels))
        hidden = self.drop(hidden, deterministic=not self.has_rng("dropout"))
        return x + self.up(hidden)

    # Next site: the carry is that of the 3 × 3 convolution.

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> ClassConvCarry:
        return self.conv.init_carry(width, batch, labels)

    def begin_row(self, carry: ClassConvCarry) -> tuple[ClassConvCarry, Float[Array, "W B O"]]:
        return self.conv.begin_row(carry)

    def read_row(
        self, carry: ClassConvCarry, context: Float[Array, "W B O"], x: Float[Array, "W B F"]
    ) -> tuple[ClassConvCarry, Float[Array, "W B F"]]:
        hidden = jax.nn.relu(self.down.row(jax.nn.relu(x)))
        carry, hidden = self.conv.read_row(carry, context, hidden)
        return carry, x + self.up.row(jax.nn.relu(hidden))

    def open_pixel(
        self, carry: ClassConvCarry, context: Float[Array, "B O"], column: Int[Array, ""]
    ) -> ResidualState:
        return ResidualState((), self.conv.open_pixel(carry, context, column), ())

    def site(
        self, s: int, state: ResidualState, x: Float[Array, "B G"]
    ) -> tuple[ResidualState, Float[Array, "B G"]]:
        rectified = grown(state.rectified, jax.nn.relu(x))
        conv, hidden = self.conv.site(
            s, state.conv, jax.nn.relu(self.down.site(s, None, rectified))
        )
        activated = grown(state.activated, jax.nn.relu(hidden))
        out = x + self.up.site(s, None, activated)
        return ResidualState(rectified, conv, activated), out

    def close_pixel(self, state: ResidualState) -> ClassConvCarry:
        return self.conv.close_pixel(state.conv)
