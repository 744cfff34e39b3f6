"""Row LSTM's layer for an accelerator, where the number of kernels a step counts.

What the layers remember lies in arrays of all of them, which the model reads and writes at once:
a layer is given its part, and gives back what is to be remembered of a pixel.
"""

from typing import NamedTuple

import jax.numpy as jnp

from gen_jax.layers.convolution import pick, rows_conv
from gen_jax.layers.recurrence import LSTMState, RowLSTMBase, RowLSTMContext, lstm
from gen_jax.layers.site_layer import Groups, grown
from gen_jax.typing import Array, Float, Int


class StackedPixel(NamedTuple):
    """A pixel's way through the layer."""

    gates: Float[Array, "B F4"]
    """What is known of the pre-activations before the pixel."""
    above: Float[Array, "B F"]
    """The cell above."""
    inputs: Groups
    """The pixel's own input groups so far."""
    states: Groups
    """States of its sites so far, by group."""
    cells: Groups
    """And their cells."""


class StackedResult(NamedTuple):
    """What is to be remembered of a pixel."""

    memory: Float[Array, "B F2"]
    """State and cell."""
    inputs: Float[Array, "B F2"]
    """The layer's input."""


class StackedRowLSTMLayer(RowLSTMBase, kw_only=True):
    """The same layer, of the same parameters; its memory is the model's."""

    def begin_row(self, above: LSTMState) -> RowLSTMContext:
        """State-to-state of the whole row, from the row above."""
        kernel = self.gates.kernel_state.astype(self.dtype)
        return RowLSTMContext(rows_conv(above.state[None], kernel[None]), above.cell)

    def read_row(
        self, context: RowLSTMContext, x: Float[Array, "W B F2"]
    ) -> tuple[LSTMState, Float[Array, "W B F2"]]:
        """`site` for all pixels and sites of a row at once."""
        new = lstm(self.gates.row(x) + context.gates, context.cells)
        return new, x + self.out.row(new.state)

    def open_pixel(
        self, carry: Float[Array, "B F4"], context: RowLSTMContext, column: Int[Array, ""]
    ) -> StackedPixel:
        """`carry` is what the pixels to the left say of the gates."""
        return StackedPixel(carry + context.gates, context.cells, (), (), ())

    def site(
        self, s: int, state: StackedPixel, x: Float[Array, "B G"]
    ) -> tuple[StackedPixel, Float[Array, "B G"]]:
        inputs = grown(state.inputs, x)
        gates = self.gates.site(s, None, inputs, (), state.gates)
        new = lstm(gates, pick(state.above, s, self.groups))
        states = grown(state.states, new.state)
        state = state._replace(inputs=inputs, states=states, cells=grown(state.cells, new.cell))
        return state, x + self.out.site(s, None, states)

    def close_pixel(self, state: StackedPixel) -> StackedResult:
        return StackedResult(
            jnp.concatenate([*state.states, *state.cells], axis=-1),
            jnp.concatenate(state.inputs, axis=-1),
        )
