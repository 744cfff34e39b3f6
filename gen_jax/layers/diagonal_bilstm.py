"""Diagonal BiLSTM's layer, with its views (van den Oord et al. 2016, §3).

The LSTM is that of `gen_jax.layers.recurrence`.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.layers.convolution import MaskedConv, pick, put
from gen_jax.layers.diagonals import scan_diagonals
from gen_jax.layers.recurrence import LSTMGates, LSTMState, lstm
from gen_jax.layers.site_layer import Groups, grown
from gen_jax.typing import Array, Dtype, Float, Int, Labels


class DiagonalCarry(NamedTuple):
    """Three rows, and what is to the left."""

    inputs: Float[Array, "W B F2"]
    """The layer's input in the row above, overwritten from the left."""
    states: Float[Array, "W B F"]
    """Left-to-right states of the row above, overwritten from the left."""
    right: Float[Array, "W B F"]
    """Right-to-left states of the row above the one being drawn, shifted down already."""
    left: LSTMState
    """Left-to-right, of the pixel to the left."""


class DiagonalPixel(NamedTuple):
    """A pixel's way through the layer."""

    carry: DiagonalCarry
    """As it was before the pixel."""
    above: Float[Array, "B F4"]
    """What the state above contributes from left to right."""
    right: Float[Array, "B F"]
    """The right-to-left state that is added."""
    column: Int[Array, ""]
    """Where in its row the pixel is."""
    inputs: Groups
    """The pixel's own input groups so far."""
    states: Groups
    """Left-to-right states of the sites so far."""
    cells: Groups
    """Left-to-right cells, likewise."""
    sums: Groups
    """States of both directions, added."""


class DiagonalBiLSTMLayer(nn.Module, kw_only=True):
    """Diagonal BiLSTM: an LSTM along the diagonals from either side, each reading two states.

    State-to-state at pixel (i, j) reads (i, j − 1) and (i − 1, j) from left to right, (i, j + 1)
    and (i − 1, j) from right to left. The second is shifted down one row before it is added to the
    first, so that pixel (i, j) sees all of row i − 1 and nothing of its own future.
    """

    features: int
    groups: int
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        h, groups = self.features, self.groups
        self.left_to_right, self.right_to_left = (
            LSTMGates(
                in_features=2 * h, features=h, groups=groups, side=0, taps=2, dtype=self.dtype
            )
            for _ in range(2)
        )
        self.out = MaskedConv(
            in_features=h, features=2 * h, mask="B", groups=groups, dtype=self.dtype
        )
        self.drop = nn.Dropout(self.dropout)

    # Whole image: a diagonal at a time, both directions in one scan.

    def __call__(
        self, x: Float[Array, "H W B F2"], own_pixel: Float[Array, "H W B F2"] | None = None
    ) -> Float[Array, "H W B F2"]:
        """`own_pixel`, which knows the pixel itself, is added to what is read from the right."""
        weights = [self.left_to_right.weights(), self.right_to_left.weights()]

        def step(direction: int, x: Array, left: Array, above: Array, cell: Array) -> LSTMState:
            kernel, bias = weights[direction]
            return lstm(jnp.concatenate([x, left, above], axis=-1) @ kernel + bias, cell)

        mirrored = x[:, ::-1] if own_pixel is None else (x + own_pixel)[:, ::-1]
        left, right = scan_diagonals(step, (x, mirrored), self.features)
        right = jnp.pad(right[:-1, ::-1], ((1, 0), (0, 0), (0, 0), (0, 0)))
        state = self.drop(left + right, deterministic=not self.has_rng("dropout"))
        return x + self.out(state)

    # Next site.

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> DiagonalCarry:
        h = self.features  # the class is in the features already
        inputs, states, right = (
            jnp.zeros((width, batch, features), self.dtype) for features in (2 * h, h, h)
        )
        left = LSTMState(*(jnp.zeros((batch, h), self.dtype) for _ in range(2)))
        return DiagonalCarry(inputs, states, right, left)

    def finish_row(
        self, carry: DiagonalCarry, own_pixel: Float[Array, "W B F2"] | None = None
    ) -> tuple[Float[Array, "W B F4"], Float[Array, "F F4"]]:
        """For the row just drawn: right-to-left but for the state beside; that state's kernel."""
        inputs = carry.inputs if own_pixel is None else carry.inputs + own_pixel
        h = self.features
        kernel, bias = self.right_to_left.weights()
        outside = jnp.concatenate([kernel[: 2 * h], kernel[3 * h :]])
        gates = jnp.concatenate([inputs, carry.right], axis=-1) @ outside + bias
        return gates, kernel[2 * h : 3 * h]

    def begin_row(self, carry: DiagonalCarry) -> tuple[DiagonalCarry, Float[Array, "W B F4"]]:
        """What the states above contribute from left to right; `right` is of this row already."""
        above = self.left_to_right.from_states([carry.states], 1)
        return carry._replace(left=LSTMState(*map(jnp.zeros_like, carry.left))), above

    def open_pixel(
        self, carry: DiagonalCarry, context: Float[Array, "B F4"], column: Int[Array, ""]
    ) -> DiagonalPixel:
        right = jax.lax.dynamic_index_in_dim(carry.right, column, 0, keepdims=False)
        return DiagonalPixel(carry, context, right, column, (), (), (), ())

    def site(
        self, s: int, state: DiagonalPixel, x: Float[Array, "B G"]
    ) -> tuple[DiagonalPixel, Float[Array, "B G"]]:
        left, inputs = state.carry.left, grown(state.inputs, x)
        gates = self.left_to_right.site(s, None, inputs, (left.state,), state.above)
        new = lstm(gates, pick(left.cell, s, self.groups))
        sums = grown(state.sums, new.state + pick(state.right, s, self.groups))
        state = state._replace(
            inputs=inputs,
            states=grown(state.states, new.state),
            cells=grown(state.cells, new.cell),
            sums=sums,
        )
        return state, x + self.out.site(s, None, sums)

    def close_pixel(self, state: DiagonalPixel) -> DiagonalCarry:
        own, cell, pixel = (
            jnp.concatenate(maps, axis=-1) for maps in (state.states, state.cells, state.inputs)
        )
        carry, column = state.carry, state.column
        return carry._replace(
            inputs=put(carry.inputs, pixel, column),
            states=put(carry.states, own, column),
            left=LSTMState(own, cell),
        )


def right_to_left_row(
    gates: list[Float[Array, "W B F4"]], kernels: list[Float[Array, "F F4"]]
) -> list[Float[Array, "W B F"]]:
    """A row of right-to-left states in every layer at once, a column at a time."""

    def column(carry: list[LSTMState], gates: list[Array]) -> tuple[list[LSTMState], list[Array]]:
        carry = [
            lstm(g + beside.state @ kernel, beside.cell)
            for g, kernel, beside in zip(gates, kernels, carry, strict=True)
        ]
        return carry, [new.state for new in carry]

    zeros = [
        jnp.zeros((g.shape[1], k.shape[0]), g.dtype) for g, k in zip(gates, kernels, strict=True)
    ]
    return jax.lax.scan(column, [LSTMState(z, z) for z in zeros], gates, reverse=True)[1]
