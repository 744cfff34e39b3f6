"""Row LSTM (van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks").

    p(x) = prod_i p(x_i | x_<i),   sites in raster order, R → G → B inside a pixel

A 7 × 7 convolution with mask A to 2h maps; then layers of an LSTM that runs from the top row to the
bottom one, all pixels of a row at once: input-to-state 1 × 3 along the row (mask B), state-to-state
1 × 3 over columns j − 1 … j + 1 of the row above, a 1 × 1 back to 2h, added to the input (§3.1).
Its receptive field is a **triangle** above the pixel (`receptive_field`): like PixelCNN it does not
see all that came before.

The whole-image view scans over the rows, and each row passes through all layers while it is in the
cache. In the next-site view state-to-state is one matmul a row, since it reads the row above only.
An accelerator draws from `StackedRowLSTM`, the same model with a next-site view of fewer kernels.
"""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import checks
from gen_jax.layers.class_conv import ClassConvCarry
from gen_jax.layers.convolution import push
from gen_jax.layers.recurrence import LSTMState, RowLSTMLayer
from gen_jax.layers.site_layer import draw_pixel
from gen_jax.layers.stacked_row_lstm import StackedRowLSTMLayer
from gen_jax.models.shared.pixel_rnn import PixelRNN, PixelRNNCarry, PixelRNNContext
from gen_jax.models.shared.receptive_field import hops, receptive_field
from gen_jax.typing import Array, Draw, Float, Integer, Labels, Levels, SiteParams


class RowLSTM(PixelRNN):
    """Row LSTM: LSTMs from the top row to the bottom one, which see a triangle above each pixel.

    van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", §3.1.
    `features` is h: the LSTMs have h units, the stack between them carries 2h maps.
    """

    kernel_size: int = 3
    """Pixels of a row that the LSTM reads: of its states above, and of its masked input; odd."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("kernel_size", self.kernel_size, 3, odd=True)

    def for_accelerator(self) -> "RowLSTM":
        """The same model, in which a step is fewer kernels; it takes a CPU longer."""
        if type(self) is not RowLSTM:  # a subclass may change what the other form would not know
            return self
        names = {field.name for field in dataclasses.fields(self) if field.init}
        fields = {name: getattr(self, name) for name in names - {"parent", "name"}}
        return StackedRowLSTM(**fields, parent=None)

    @property
    def layer_type(self) -> type[RowLSTMLayer] | type[StackedRowLSTMLayer]:
        """Class of the layers."""
        return RowLSTMLayer

    def layer(self) -> RowLSTMLayer | StackedRowLSTMLayer:
        return self.layer_type(
            features=self.rounded_features,
            kernel_size=self.kernel_size,
            groups=self.sites,
            dropout=self.dropout,
            dtype=self.dtype,
        )

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        images, labels = self.check(images, labels)
        x = self.first(self.scale(jnp.asarray(images)), labels)
        rows = jnp.transpose(x, (1, 2, 0, 3))
        _, width, batch, _ = rows.shape
        above = [layer.init_rows(width, batch) for layer in self.layers]
        # The backward pass computes each row again, from the states and cells of the row above,
        # which are all that is kept of it.
        scan = nn.scan(
            nn.remat(_row),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
        )
        _, params = scan(self, above, rows)
        return self.site_params(jnp.transpose(params, (2, 0, 1, 3)), images, labels)

    def block(
        self, carry: PixelRNNCarry, context: PixelRNNContext, levels: Integer[Array, "W S B V"]
    ) -> tuple[PixelRNNCarry, Float[Array, "W S B P"]]:
        return self.read_row(carry, context, levels)

    def receptive_field(self) -> np.ndarray:
        """bool [H, W, S, H, W, S]: `field[r, c, s]` marks what site s of pixel (r, c) depends on.

        A triangle that widens by `kernel_size // 2` columns to either side a row, from what the
        first convolution reads on; to the left in the row itself, `kernel_size // 2` a layer.
        """
        height, _, _ = self.image_shape
        side = self.kernel_size // 2
        layer = {
            (up, left) for up in range(height) for left in range(-up * side, (up + 1) * side + 1)
        }
        entry = hops(self.first_kernel_size // 2)
        return receptive_field(self.image_shape, self.sites, entry, [layer] * self.num_layers)


class StackedRowLSTM(RowLSTM):
    """Row LSTM in the form for accelerators: of the same parameters, with the same distribution.

    What the layers remember lies in one array for all of them, and all read the pixels to the left
    in one matmul: a step is launched as fewer kernels.
    """

    @property
    def layer_type(self) -> type[StackedRowLSTMLayer]:
        return StackedRowLSTMLayer

    def init_carry(self, batch: int, labels: Labels | None = None) -> "StackedRowLSTMCarry":
        width, layers, h = self.image_shape[1], self.num_layers, self.rounded_features
        side = self.kernel_size // 2
        return StackedRowLSTMCarry(
            first_conv=self.first.init_carry(width, batch, labels),
            memory=jnp.zeros((layers, width, batch, 2 * h), self.dtype),
            windows=jnp.zeros((layers, batch, side * 2 * h), self.dtype),
        )

    def begin_block(
        self,
        carry: "StackedRowLSTMCarry",
        block: Integer[Array, ""],
        previous: Integer[Array, "W S B V"],
    ) -> tuple["StackedRowLSTMCarry", PixelRNNContext]:
        first_conv, context = self.first.begin_row(carry.first_conv)
        contexts = tuple(
            layer.begin_row(LSTMState(*jnp.split(memory, 2, axis=-1)))
            for layer, memory in zip(self.layers, carry.memory, strict=True)
        )
        carry = carry._replace(first_conv=first_conv, windows=jnp.zeros_like(carry.windows))
        return carry, PixelRNNContext(jnp.arange(len(previous)), context, contexts)

    def step(
        self, carry: "StackedRowLSTMCarry", context: PixelRNNContext, draw: Draw
    ) -> "StackedRowLSTMCarry":
        kernels = jnp.stack([layer.gates.left_kernel() for layer in self.layers])
        left = jnp.einsum("lbi,lio->lbo", carry.windows, kernels)
        first_conv, *pixels = draw_pixel(
            self.first,
            self.layers,
            self.head,
            (carry.first_conv, *left),
            (context.first_conv, *context.layers),
            context.column,
            self.scaled(draw),
        )
        memory, inputs = (jnp.stack(arrays) for arrays in zip(*pixels, strict=True))
        corner = (0, context.column, 0, 0)
        return StackedRowLSTMCarry(
            first_conv=first_conv,
            memory=jax.lax.dynamic_update_slice(carry.memory, memory[:, None], corner),
            windows=push(carry.windows, inputs),
        )

    def block(
        self,
        carry: "StackedRowLSTMCarry",
        context: PixelRNNContext,
        levels: Integer[Array, "W S B V"],
    ) -> tuple["StackedRowLSTMCarry", Float[Array, "W S B P"]]:
        first_conv, x = self.first.read_row(
            carry.first_conv, context.first_conv, self.scale_row(levels)
        )
        memory = []
        for layer, layer_context in zip(self.layers, context.layers, strict=True):
            state, x = layer.read_row(layer_context, x)
            memory.append(jnp.concatenate(state, axis=-1))
        carry = carry._replace(first_conv=first_conv, memory=jnp.stack(memory))
        return carry, self.row_params(self.head(x[None])[0])


class StackedRowLSTMCarry(NamedTuple):
    """What a pixel hands to the next."""

    first_conv: ClassConvCarry
    """That of the first convolution."""
    memory: Float[Array, "layers W B F2"]
    """State and cell of the row above, overwritten from the left with the row being drawn."""
    windows: Float[Array, "layers B SI"]
    """Input pixels to the left, flattened."""


def _row(
    model: RowLSTM, above: list[LSTMState], x: Float[Array, "W B F"]
) -> tuple[list[LSTMState], Float[Array, "W B SP"]]:
    """One row of the image through all layers and the head."""
    states = []
    for layer, layer_above in zip(model.layers, above, strict=True):
        state, x = layer.row(layer_above, x)
        states.append(state)
    return states, model.head(x[None])[0]
