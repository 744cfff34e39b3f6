"""Diagonal BiLSTM (van den Oord, Kalchbrenner & Kavukcuoglu 2016).

    p(x) = prod_i p(x_i | x_<i),   sites in raster order, R → G → B inside a pixel

A 7 × 7 convolution with mask A to 2h maps; then layers of two LSTMs that run along the diagonals,
one from either side: input-to-state 1 × 1 (mask B), state-to-state two taps, the right-to-left
states shifted down one row before they are added to the others, a 1 × 1 back to 2h, added to the
input (§3.2). Every pixel sees all pixels before it.

A departure on purpose: in the first layer, the right-to-left LSTM reads the pixel itself too. It
may, since its states are shifted down a row. By the paper's definition alone the last pixel of a
row is seen by no feature of that row, and so, at any depth, by none of the next row's pixels but
those near its end that the first convolution reaches.

The whole-image view scans over the H + W − 1 diagonals, both directions in one scan. In the
next-site view the right-to-left states that a row needs are those of the row above, so they are
computed once a row, for all layers in one scan over the columns; the left-to-right cell takes one
step a pixel.
"""

import flax.linen as nn
import jax.numpy as jnp

from gen_jax.layers.convolution import param_dtype
from gen_jax.layers.diagonal_bilstm import DiagonalBiLSTMLayer, right_to_left_row
from gen_jax.models.shared.pixel_rnn import PixelRNN, PixelRNNCarry, PixelRNNContext
from gen_jax.typing import Array, Integer, Labels, Levels, SiteParams


class DiagonalBiLSTM(PixelRNN):
    """Diagonal BiLSTM: LSTMs along the diagonals from either side; all pixels before are seen.

    van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", §3.2.
    `features` is h: the LSTMs have h units, the stack carries 2h maps. No block view.
    """

    def layer(self) -> DiagonalBiLSTMLayer:
        return DiagonalBiLSTMLayer(
            features=self.rounded_features,
            groups=self.sites,
            dropout=self.dropout,
            dtype=self.dtype,
        )

    def setup(self) -> None:
        super().setup()
        self.own_pixel = nn.Dense(
            2 * self.rounded_features,
            use_bias=False,
            dtype=self.dtype,
            param_dtype=param_dtype(self.dtype),
        )

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        images, labels = self.check(images, labels)
        image = self.scale(jnp.asarray(images))
        x, own_pixel = (
            jnp.transpose(maps, (1, 2, 0, 3))
            for maps in (self.first(image, labels), self.own_pixel(image))
        )
        for n, layer in enumerate(self.layers):
            x = layer(x, None if n else own_pixel)
        params = jnp.transpose(self.head(x), (2, 0, 1, 3))
        return self.site_params(params, images, labels)

    def begin_block(
        self, carry: PixelRNNCarry, block: Integer[Array, ""], previous: Integer[Array, "W S B V"]
    ) -> tuple[PixelRNNCarry, PixelRNNContext]:
        # The row above, from right to left, in all layers at once.
        own_pixels = [self.own_pixel(self.scale_row(previous)), *[None] * (self.num_layers - 1)]
        finished = [
            layer.finish_row(layer_carry, own_pixel)
            for layer, layer_carry, own_pixel in zip(
                self.layers, carry.layers, own_pixels, strict=True
            )
        ]
        above = right_to_left_row(*map(list, zip(*finished, strict=True)))
        # Above row 0 the states are zero, not those of a row of zeros.
        carries = tuple(
            layer_carry._replace(right=jnp.where(block > 0, states, 0))
            for layer_carry, states in zip(carry.layers, above, strict=True)
        )
        return super().begin_block(carry._replace(layers=carries), block, previous)
