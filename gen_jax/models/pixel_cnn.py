"""PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks").

    p(x) = prod_i p(x_i | x_<i),   sites in raster order, R → G → B inside a pixel

One stack of masked convolutions: 7 × 7 with mask A, then residual blocks of ReLU 1 × 1, 3 × 3,
1 × 1 with mask B. It has a **blind spot**: through any number of layers, a pixel to the right in
the rows above is seen only within a cone (`receptive_field` says which). `GatedPixelCNN` has none.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import checks
from gen_jax.layers.class_conv import ClassConv
from gen_jax.layers.convolution import MaskedConv
from gen_jax.models.pixel_rnn import PixelRNN
from gen_jax.models.receptive_field import hops, receptive_field
from gen_jax.typing import Array, Carry, Dtype, Float, Labels, Levels, SiteParams


class PixelCNN(PixelRNN):
    """PixelCNN: one stack of masked convolutions. `features` is h: the stack carries 2h maps."""

    kernel_size: int = 3
    """Of the residual blocks' convolutions, odd."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("kernel_size", self.kernel_size, 3, odd=True)

    def layer(self) -> "ResidualBlock":
        return ResidualBlock(
            self.width, self.kernel_size, self.sites, self.num_classes, self.dropout, self.dtype
        )

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        images, labels = self.check(images, labels)
        x = self.first(self.scale(jnp.asarray(images)), labels)
        for layer in self.layers:
            x = layer(x, labels)
        return self.site_params(self.head(x), images, labels)

    def receptive_field(self) -> np.ndarray:
        """bool [H, W, S, H, W, S]: `field[r, c, s]` marks what site s of pixel (r, c) depends on.

        Earlier sites that it leaves out are the blind spot.
        """
        first = hops(self.first_kernel_size // 2)
        block = {*hops(self.kernel_size // 2), (0, 0)}
        return receptive_field(self.image_shape, self.sites, first, [block] * self.num_layers)


class ResidualBlock(nn.Module):
    """ReLU 1 × 1 (2h → h), ReLU 3 × 3 (h → h), ReLU 1 × 1 (h → 2h), added to the input."""

    features: int
    kernel_size: int
    groups: int
    num_classes: int | None
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        h, groups, dtype = self.features, self.groups, self.dtype
        self.down = MaskedConv(2 * h, h, "B", groups, dtype=dtype)
        self.conv = ClassConv(h, h, "B", groups, self.kernel_size // 2, self.num_classes, dtype)
        self.up = MaskedConv(h, 2 * h, "B", groups, dtype=dtype)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, x: Float[Array, "B H W I"], labels: Labels | None) -> Array:
        hidden = jax.nn.relu(self.down(jax.nn.relu(x)))
        hidden = jax.nn.relu(self.conv(hidden, labels))
        hidden = self.drop(hidden, deterministic=not self.has_rng("dropout"))
        return x + self.up(hidden)

    # The carry of the 3 × 3 convolution is the rows above in its input, the last of which is the
    # row being drawn and is written step by step, the pixels to the left, and the class projection.

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> Carry:
        return self.conv.init_carry(width, batch, labels)

    def begin_row(self, carry: Carry) -> tuple[Carry, Float[Array, "W B O"]]:
        return self.conv.begin_row(carry)

    def pixel(
        self, carry: Carry, context: Array, column: Array, inputs: list[Array]
    ) -> tuple[Callable[[int], None], list[Array], Callable[[], Carry]]:
        """One pixel: `group(s)` appends output group s; `finish()` gives the next carry."""
        rectified: list[Array] = []
        narrow: list[Array] = []
        activated: list[Array] = []
        outputs: list[Array] = []
        convolve, convolved, finish = self.conv.pixel(carry, context, column, narrow)

        def group(s: int) -> None:
            rectified.append(jax.nn.relu(inputs[s]))
            narrow.append(jax.nn.relu(self.down.group(s, None, rectified)))
            convolve(s)
            activated.append(jax.nn.relu(convolved[s]))
            outputs.append(inputs[s] + self.up.group(s, None, activated))

        return group, outputs, finish
