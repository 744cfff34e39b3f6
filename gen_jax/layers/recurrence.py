"""The recurrent layers of PixelRNN, each with its two views (van den Oord et al. 2016, §3).

    [o, f, i, g] = σ, σ, σ, tanh of (K_is * x + K_ss * h_prev + b)
    c = f ⊙ c_prev + i ⊙ g,    h = o ⊙ tanh(c)                                    (eq. 3)

A layer reads 2h features, runs an LSTM of h, and adds a 1 × 1 convolution back to 2h. Feature maps
are `[H, W, B, F]` here, so that a row, a column and a diagonal are runs of whole matrices.

Input-to-state is masked (mask B, each of the four gates on its own); state-to-state is not, since
states are of strictly earlier pixels. Whatever lies outside the image has a state of zero.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.layers.convolution import (
    MaskedConv,
    centre_mask,
    kernel_init,
    param_dtype,
    pick,
    push,
    put,
)
from gen_jax.layers.diagonals import scan_diagonals
from gen_jax.typing import Array, Carry, Context, Dtype, Float, Labels


def lstm(
    gates: Float[Array, "*batch F4"], cell: Float[Array, "*batch F"]
) -> tuple[Float[Array, "*batch F"], Float[Array, "*batch F"]]:
    """State and cell from the pre-activations [o, f, i, g] and the cell before.

    σ(x) is ½ + ½ tanh(x / 2), exactly: one tanh over all four gates took two thirds of the time
    of three σ and a tanh on CPU.
    """
    half = np.repeat([0.5, 0.5, 0.5, 1.0], cell.shape[-1]).astype(gates.dtype)
    half = half.reshape((1,) * (gates.ndim - 1) + (-1,))
    o, f, i, g = jnp.split(jnp.tanh(gates * half), 4, axis=-1)
    cell = 0.5 * ((1 + f) * cell + (1 + i) * g)
    return 0.5 * (1 + o) * jnp.tanh(cell), cell


class LSTMGates(nn.Module):
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

    def from_states(
        self, states: Sequence[Float[Array, "W B F"]], first: int
    ) -> Float[Array, "W B F4"]:
        """What the states at taps `first …` contribute to a row."""
        kernel = self.state_kernel(slice(first, first + len(states)))
        return jnp.concatenate(states, axis=-1) @ kernel

    def state_kernel(self, taps: slice) -> Float[Array, "I F4"]:
        """State-to-state at some of the taps, flattened."""
        return self.kernel_state[taps].reshape(-1, 4 * self.features).astype(self.dtype)

    def group(
        self,
        group: int,
        window: Float[Array, "B SI"] | None,
        centre: list[Float[Array, "B G"]],
        states: list[Float[Array, "B F"]],
        context: Float[Array, "B F4"],
    ) -> Float[Array, "B _"]:
        """Group `group` of every gate at one pixel.

        `window` holds the pixels to the left, flattened; `centre` the pixel's own input groups so
        far; `states` those of the first taps. `context` brings the rest.
        """
        num_rows = self.side * self.in_features
        num_rows += (group + 1) * (self.in_features // self.groups)
        kernels = [self.kernel_input.reshape(-1, 4 * self.features)[:num_rows].astype(self.dtype)]
        kernels += [self.state_kernel(slice(len(states)))] if states else []
        inputs = ([] if window is None else [window]) + centre[: group + 1] + states
        kernel, rest = (
            pick(x, group, self.groups, parts=4) for x in (jnp.concatenate(kernels), context)
        )
        # The bias is added here, not to a whole row of contexts: it rides along with the gates.
        bias = pick(self.bias.astype(self.dtype)[None], group, self.groups, parts=4)
        return jnp.concatenate(inputs, axis=-1) @ kernel + rest + bias


class RowLSTMLayer(nn.Module):
    """Row LSTM: input-to-state 1 × k along the row, state-to-state 1 × k over the row above."""

    features: int
    kernel_size: int
    groups: int
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        h, k, groups = self.features, self.kernel_size, self.groups
        self.gates = LSTMGates(2 * h, h, groups, k // 2, k, self.dtype)
        self.out = MaskedConv(h, 2 * h, "B", groups, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout)

    # Whole image: a row at a time, all of its pixels at once.

    def init_rows(self, width: int, batch: int) -> Carry:
        """State and cell above the image."""
        zeros = jnp.zeros((width, batch, self.features), self.dtype)
        return zeros, zeros

    def row(self, carry: Carry, x: Float[Array, "W B F2"]) -> tuple[Carry, Float[Array, "W B F2"]]:
        state, cell = carry
        side = self.kernel_size // 2
        inputs = [*_columns(x, range(-side, 1)), *_columns(state, range(-side, side + 1))]
        kernel, bias = self.gates.weights()
        state, cell = lstm(jnp.concatenate(inputs, axis=-1) @ kernel + bias, cell)
        dropped = self.drop(state, deterministic=not self.has_rng("dropout"))
        return (state, cell), x + self.out(dropped[None])[0]

    # Next site. The carry: states (with zeros to either side) and cells of the row above,
    # overwritten from the left with those of the row being drawn, and the input pixels to the left.

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> Carry:
        del labels  # in the features already
        side = self.kernel_size // 2
        state, cell = self.init_rows(width, batch)
        window = jnp.zeros((batch, side * 2 * self.features), self.dtype)
        return jnp.pad(state, ((side, side), (0, 0), (0, 0))), cell, window

    def begin_row(self, carry: Carry) -> tuple[Carry, Context]:
        """State-to-state of the whole row."""
        state, cell, window = carry
        above = self.gates.from_states(
            [state[tap : tap + len(cell)] for tap in range(self.kernel_size)], 0
        )
        return (state, cell, jnp.zeros_like(window)), (above, cell)

    def pixel(
        self, carry: Carry, context: Context, column: Array, inputs: list[Array]
    ) -> tuple[Callable[[int], None], list[Array], Callable[[], Carry]]:
        """One pixel: `group(s)` appends output group s; `finish()` gives the next carry."""
        state_row, cell_row, window = carry
        gates_above, cell_above = context
        states: list[Array] = []
        cells: list[Array] = []
        outputs: list[Array] = []

        def group(s: int) -> None:
            gates = self.gates.group(s, window, inputs, [], gates_above)
            state, cell = lstm(gates, pick(cell_above, s, self.groups))
            states.append(state)
            cells.append(cell)
            outputs.append(inputs[s] + self.out.group(s, None, states))

        def finish() -> Carry:
            state, cell, pixel = (jnp.concatenate(x, axis=-1) for x in (states, cells, inputs))
            side = self.kernel_size // 2
            rows = put(state_row, state, column + side), put(cell_row, cell, column)
            return *rows, push(window, pixel)

        return group, outputs, finish


class DiagonalBiLSTMLayer(nn.Module):
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
        self.left_to_right = LSTMGates(2 * h, h, groups, 0, 2, self.dtype)
        self.right_to_left = LSTMGates(2 * h, h, groups, 0, 2, self.dtype)
        self.out = MaskedConv(h, 2 * h, "B", groups, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout)

    # Whole image: a diagonal at a time, both directions in one scan.

    def __call__(
        self,
        x: Float[Array, "H kW B F2"],
        width: int,
        own_pixel: Float[Array, "H kW B F2"] | None = None,
    ) -> Float[Array, "H kW B F2"]:
        """`x` holds images of `width` columns side by side.

        `own_pixel`, which knows the pixel itself, is added to what is read from right to left.
        """
        weights = [self.left_to_right.weights(), self.right_to_left.weights()]

        def step(
            direction: int, x: Array, left: Array, above: Array, cell: Array
        ) -> tuple[Array, Array]:
            kernel, bias = weights[direction]
            return lstm(jnp.concatenate([x, left, above], axis=-1) @ kernel + bias, cell)

        mirrored = x[:, ::-1] if own_pixel is None else (x + own_pixel)[:, ::-1]
        left, right = scan_diagonals(step, (x, mirrored), width, self.features)
        right = jnp.pad(right[:-1, ::-1], ((1, 0), (0, 0), (0, 0), (0, 0)))
        state = self.drop(left + right, deterministic=not self.has_rng("dropout"))
        return x + self.out(state)

    # Next site. The carry: three rows, of the layer's input and of the left-to-right states, both
    # overwritten from the left, and of the right-to-left states two rows above the one being
    # drawn; then the state and cell to the left.

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> Carry:
        del labels  # in the features already
        h = self.features
        rows = [jnp.zeros((width, batch, features), self.dtype) for features in (2 * h, h, h)]
        return rows, [jnp.zeros((batch, h), self.dtype) for _ in range(2)]

    def finish_row(
        self, carry: Carry, own_pixel: Float[Array, "W B F2"] | None = None
    ) -> tuple[Array, Array]:
        """For the row just drawn: right-to-left but for the state beside; that state's kernel."""
        (inputs, _, above), _ = carry
        inputs = inputs if own_pixel is None else inputs + own_pixel
        h = self.features
        kernel, bias = self.right_to_left.weights()
        outside = jnp.concatenate([kernel[: 2 * h], kernel[3 * h :]])
        gates = jnp.concatenate([inputs, above], axis=-1) @ outside + bias
        return gates, kernel[2 * h : 3 * h]

    def begin_row(self, carry: Carry, right: Float[Array, "W B F"]) -> tuple[Carry, Array]:
        """With the right-to-left states of the row above: what the pixels of this row need."""
        (inputs, state, _), left = carry
        above = self.left_to_right.from_states([state], 1)
        return ([inputs, state, right], [jnp.zeros_like(x) for x in left]), above

    def pixel(
        self, carry: Carry, context: Array, column: Array, inputs: list[Array]
    ) -> tuple[Callable[[int], None], list[Array], Callable[[], Carry]]:
        """One pixel: `group(s)` appends output group s; `finish()` gives the next carry."""
        (input_row, state_row, right_row), (state_left, cell_left) = carry
        right = jax.lax.dynamic_index_in_dim(right_row, column, 0, keepdims=False)
        states: list[Array] = []
        cells: list[Array] = []
        sums: list[Array] = []
        outputs: list[Array] = []

        def group(s: int) -> None:
            gates = self.left_to_right.group(s, None, inputs, [state_left], context)
            state, cell = lstm(gates, pick(cell_left, s, self.groups))
            states.append(state)
            cells.append(cell)
            sums.append(state + pick(right, s, self.groups))
            outputs.append(inputs[s] + self.out.group(s, None, sums))

        def finish() -> Carry:
            state, cell, pixel = (jnp.concatenate(x, axis=-1) for x in (states, cells, inputs))
            rows = [put(input_row, pixel, column), put(state_row, state, column), right_row]
            return rows, [state, cell]

        return group, outputs, finish


def right_to_left_row(
    gates: list[Float[Array, "W B F4"]], kernels: list[Float[Array, "F F4"]]
) -> list[Float[Array, "W B F"]]:
    """A row of right-to-left states in every layer at once, a column at a time."""

    def column(carry: Carry, gates: list[Array]) -> tuple[Carry, list[Array]]:
        carry = [
            lstm(g + state @ kernel, cell)
            for g, kernel, (state, cell) in zip(gates, kernels, carry, strict=True)
        ]
        return carry, [state for state, _ in carry]

    zeros = [
        jnp.zeros((g.shape[1], k.shape[0]), g.dtype) for g, k in zip(gates, kernels, strict=True)
    ]
    return jax.lax.scan(column, [(z, z) for z in zeros], gates, reverse=True)[1]


def _columns(x: Float[Array, "W B F"], offsets: range) -> list[Float[Array, "W B F"]]:
    """The row moved so that column j holds column j + offset, zero outside."""
    width, reach = x.shape[0], max(abs(offsets[0]), abs(offsets[-1]))
    padded = jnp.pad(x, ((reach, reach), (0, 0), (0, 0)))
    return [padded[reach + offset : reach + offset + width] for offset in offsets]
