"""The LSTM of PixelRNN, and Row LSTM's layer with its views (van den Oord et al. 2016, §3).

    [o, f, i, g] = σ, σ, σ, tanh of (K_is * x + K_ss * h_prev + b)
    c = f ⊙ c_prev + i ⊙ g,    h = o ⊙ tanh(c)                                    (eq. 3)

A layer reads 2h features, runs an LSTM of h, and adds a 1 × 1 convolution back to 2h. Feature maps
are `[H, W, B, F]` here, so that a row, a column and a diagonal are runs of whole matrices.

Input-to-state is masked (mask B, each of the four gates on its own); state-to-state is not, since
states are of strictly earlier pixels. Whatever lies outside the image has a state of zero.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from gen_jax.layers.convolution import (
    MaskedConv,
    centre_mask,
    columns,
    kernel_init,
    param_dtype,
    pick,
    push,
    put,
)
from gen_jax.layers.site_layer import Groups, grown
from gen_jax.typing import Array, Dtype, Float, Int, Labels


class LSTMState(NamedTuple):
    """What an LSTM hands on, of pixels as they lie."""

    state: Float[Array, "*batch F"]
    """h: what is read."""
    cell: Float[Array, "*batch F"]
    """c: what is remembered."""


def lstm(gates: Float[Array, "*batch F4"], cell: Float[Array, "*batch F"]) -> LSTMState:
    """State and cell from the pre-activations [o, f, i, g] and the cell before.

    σ(x) is ½ + ½ tanh(x / 2), exactly: one tanh over all four gates took two thirds of the time
    of three σ and a tanh on CPU.
    """
    half = np.repeat([0.5, 0.5, 0.5, 1.0], cell.shape[-1]).astype(gates.dtype)
    half = half.reshape((1,) * (gates.ndim - 1) + (-1,))
    o, f, i, g = jnp.split(jnp.tanh(gates * half), 4, axis=-1)
    cell = 0.5 * ((1 + f) * cell + (1 + i) * g)
    return LSTMState(0.5 * (1 + o) * jnp.tanh(cell), cell)


class LSTMGates(nn.Module, kw_only=True):
    """Pre-activations of the four gates, laid out `[o f i g, groups, features // groups]`.

    Input-to-state reads `side` pixels to the left and, through mask B, the pixel itself;
    state-to-state reads `taps` states of earlier pixels. All of it is one matmul.
    """

    in_features: int
    features: int
    groups: int
    side: int
    taps: int
    dtype: Dtype

    def setup(self) -> None:
        outputs, dtype = 4 * self.features, param_dtype(self.dtype)
        init = kernel_init((self.side + 1) * self.in_features + self.taps * self.features)
        shape = (self.side + 1, self.in_features, outputs)
        self.kernel_input = self.param("kernel_input", init, shape, dtype)
        shape = (self.taps, self.features, outputs)
        self.kernel_state = self.param("kernel_state", init, shape, dtype)
        self.bias = self.param("bias", nn.initializers.zeros, (outputs,), dtype)

    def weights(self) -> tuple[Float[Array, "I F4"], Float[Array, "1 1 F4"]]:
        """Kernel and bias for `[*inputs, *states]` side by side: whole rows and diagonals."""
        mask = centre_mask(self.in_features, self.features, "B", self.groups, parts=4)
        kernel = self.kernel_input.at[-1].multiply(mask.astype(self.kernel_input.dtype))
        flat = [x.reshape(-1, x.shape[-1]) for x in (kernel, self.kernel_state)]
        return jnp.concatenate(flat).astype(self.dtype), self.bias.astype(self.dtype)[None, None]

    # Next site.

    def row(self, x: Float[Array, "W B I"]) -> Float[Array, "W B F4"]:
        """What a row of inputs says of its own gates, and the bias."""
        kernel, bias = self.weights()
        inputs = jnp.concatenate(columns(x, range(-self.side, 1)), axis=-1)
        return inputs @ kernel[: inputs.shape[-1]] + bias

    def from_states(
        self, states: Sequence[Float[Array, "W B F"]], start: int
    ) -> Float[Array, "W B F4"]:
        """What the states at taps `start …` contribute to a row."""
        kernel = self.state_kernel(slice(start, start + len(states)))
        return jnp.concatenate(states, axis=-1) @ kernel

    def state_kernel(self, taps: slice) -> Float[Array, "I F4"]:
        """State-to-state at some of the taps, flattened."""
        return self.kernel_state[taps].reshape(-1, 4 * self.features).astype(self.dtype)

    def left_kernel(self) -> Float[Array, "SI F4"]:
        """Input-to-state of the pixels to the left, flattened."""
        # Tap after tap: by a slice reshaped, XLA's GPU backend may find no tiles for the matmul.
        taps = [self.kernel_input[tap] for tap in range(self.side)]
        return jnp.concatenate(taps).astype(self.dtype)

    def site(
        self,
        s: int,
        window: Float[Array, "B SI"] | None,
        centre: Groups,
        states: tuple[Float[Array, "B F"], ...],
        context: Float[Array, "B F4"],
    ) -> Float[Array, "B _"]:
        """The group of site s in every gate, at one pixel.

        `window` holds the pixels to the left, flattened; `centre` the pixel's own input groups so
        far; `states` those of the first taps. `context` brings the rest, without a window what
        the pixels to the left say, too.
        """
        open_inputs = (s + 1) * (self.in_features // self.groups)
        if window is None:
            kernel = self.kernel_input[-1, :open_inputs]
        else:
            num_inputs = self.side * self.in_features + open_inputs
            kernel = self.kernel_input.reshape(-1, 4 * self.features)[:num_inputs]
        kernels = [kernel.astype(self.dtype)]
        kernels += [self.state_kernel(slice(len(states)))] if states else []
        inputs = (() if window is None else (window,)) + centre[: s + 1] + states
        kernel, rest = (
            pick(x, s, self.groups, parts=4) for x in (jnp.concatenate(kernels), context)
        )
        # The bias is added here, not to a whole row of contexts: it rides along with the gates.
        bias = pick(self.bias.astype(self.dtype)[None], s, self.groups, parts=4)
        return jnp.concatenate(inputs, axis=-1) @ kernel + rest + bias


class RowLSTMBase(nn.Module, kw_only=True):
    """What both forms of the layer share: their parameters and the whole-image view.

    Input-to-state is 1 × k along the row, state-to-state 1 × k over the row above.
    """

    features: int
    kernel_size: int
    groups: int
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        h, k, groups = self.features, self.kernel_size, self.groups
        self.gates = LSTMGates(
            in_features=2 * h, features=h, groups=groups, side=k // 2, taps=k, dtype=self.dtype
        )
        self.out = MaskedConv(
            in_features=h, features=2 * h, mask="B", groups=groups, dtype=self.dtype
        )
        self.drop = nn.Dropout(self.dropout)

    # Whole image: a row at a time, all of its pixels at once.

    def init_rows(self, width: int, batch: int) -> LSTMState:
        """State and cell above the image."""
        zeros = jnp.zeros((width, batch, self.features), self.dtype)
        return LSTMState(zeros, zeros)

    def row(
        self, above: LSTMState, x: Float[Array, "W B F2"]
    ) -> tuple[LSTMState, Float[Array, "W B F2"]]:
        side = self.kernel_size // 2
        inputs = [*columns(x, range(-side, 1)), *columns(above.state, range(-side, side + 1))]
        kernel, bias = self.gates.weights()
        new = lstm(jnp.concatenate(inputs, axis=-1) @ kernel + bias, above.cell)
        dropped = self.drop(new.state, deterministic=not self.has_rng("dropout"))
        return new, x + self.out(dropped[None])[0]


class RowLSTMCarry(NamedTuple):
    """The row above, overwritten from the left with the row being drawn; the pixels to the left."""

    states: Float[Array, "columns B F"]
    """States, with zeros to either side."""
    cells: Float[Array, "W B F"]
    """Cells, of the image's columns only: each is read from straight below."""
    window: Float[Array, "B SI"]
    """Input pixels to the left, flattened."""


class RowLSTMContext(NamedTuple):
    """What the row above says to a row, or to one of its pixels."""

    gates: Float[Array, "*W B F4"]
    """What state-to-state adds to the pre-activations of the gates."""
    cells: Float[Array, "*W B F"]
    """Cells straight above, which the forget gates let through."""


class RowLSTMPixel(NamedTuple):
    """A pixel's way through the layer."""

    carry: RowLSTMCarry
    """As it was before the pixel."""
    above: RowLSTMContext
    """The pixel's share of its row's context."""
    column: Int[Array, ""]
    """Where in its row the pixel is."""
    inputs: Groups
    """The pixel's own input groups so far."""
    states: Groups
    """States of its sites so far, by group."""
    cells: Groups
    """And their cells."""


class RowLSTMLayer(RowLSTMBase, kw_only=True):
    """Row LSTM's layer, whose carry is all that it remembers."""

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> RowLSTMCarry:
        side = self.kernel_size // 2  # the class is in the features already
        state, cell = self.init_rows(width, batch)
        window = jnp.zeros((batch, side * 2 * self.features), self.dtype)
        return RowLSTMCarry(jnp.pad(state, ((side, side), (0, 0), (0, 0))), cell, window)

    def begin_row(self, carry: RowLSTMCarry) -> tuple[RowLSTMCarry, RowLSTMContext]:
        """State-to-state of the whole row."""
        width = len(carry.cells)
        gates = self.gates.from_states(
            [carry.states[tap : tap + width] for tap in range(self.kernel_size)], 0
        )
        carry = carry._replace(window=jnp.zeros_like(carry.window))
        return carry, RowLSTMContext(gates, carry.cells)

    def read_row(
        self, carry: RowLSTMCarry, context: RowLSTMContext, x: Float[Array, "W B F2"]
    ) -> tuple[RowLSTMCarry, Float[Array, "W B F2"]]:
        new = lstm(self.gates.row(x) + context.gates, context.cells)
        side = self.kernel_size // 2
        states = jnp.pad(new.state, ((side, side), (0, 0), (0, 0)))
        return carry._replace(states=states, cells=new.cell), x + self.out.row(new.state)

    def open_pixel(
        self, carry: RowLSTMCarry, context: RowLSTMContext, column: Int[Array, ""]
    ) -> RowLSTMPixel:
        return RowLSTMPixel(carry, context, column, (), (), ())

    def site(
        self, s: int, state: RowLSTMPixel, x: Float[Array, "B G"]
    ) -> tuple[RowLSTMPixel, Float[Array, "B G"]]:
        inputs = grown(state.inputs, x)
        gates = self.gates.site(s, state.carry.window, inputs, (), state.above.gates)
        new = lstm(gates, pick(state.above.cells, s, self.groups))
        states = grown(state.states, new.state)
        state = state._replace(inputs=inputs, states=states, cells=grown(state.cells, new.cell))
        return state, x + self.out.site(s, None, states)

    def close_pixel(self, state: RowLSTMPixel) -> RowLSTMCarry:
        own, cell, pixel = (
            jnp.concatenate(maps, axis=-1) for maps in (state.states, state.cells, state.inputs)
        )
        carry, column = state.carry, state.column
        return RowLSTMCarry(
            states=put(carry.states, own, column + self.kernel_size // 2),
            cells=put(carry.cells, cell, column),
            window=push(carry.window, pixel),
        )
