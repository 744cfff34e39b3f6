"""The LSTM, and Row LSTM's layer against a plain double loop over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.layers.recurrence import RowLSTMLayer, lstm
from tests.cases import layer_variables, normal
from tests.layers.lstm_by_hand import FEATURES, Pixels, masked_input, masked_out, numpy_cell


def numpy_row_lstm(p, x, size, groups):
    """[H, W, B, 2h], pixel by pixel."""
    height, width, batch, _ = x.shape
    side = size // 2
    to_input, to_state, bias = (p["gates"][k] for k in ("kernel_input", "kernel_state", "bias"))
    states, memories, out = Pixels(batch), Pixels(batch), np.empty_like(x)
    for i, j in np.ndindex(height, width):
        gates = x[i, j] @ masked_input(to_input[side], groups) + bias
        for k in range(side):
            if j + k - side >= 0:
                gates = gates + x[i, j + k - side] @ to_input[k]
        for k in range(size):
            gates = gates + states[i - 1, j + k - side] @ to_state[k]
        states[i, j], memories[i, j] = numpy_cell(gates, memories[i - 1, j])
        out[i, j] = x[i, j] + states[i, j] @ masked_out(p["out"]["kernel"][0], groups)
        out[i, j] += p["out"]["bias"]
    return out


def test_lstm_cell(x64):
    gates, memory = normal(3, 4 * FEATURES), normal(3, FEATURES, seed=1)
    expected = numpy_cell(np.asarray(gates), np.asarray(memory))
    for found, by_hand in zip(lstm(gates, memory), expected, strict=True):
        np.testing.assert_allclose(found, by_hand, rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("size", [3, 5])
def test_row_lstm_is_a_double_loop(x64, groups, size):
    layer = RowLSTMLayer(
        features=FEATURES, kernel_size=size, groups=groups, dropout=0.0, dtype="float64"
    )
    x = normal(4, 5, 2, 2 * FEATURES)

    def whole(layer, x):
        carry, rows = layer.init_rows(x.shape[1], x.shape[2]), []
        for row in x:
            carry, out = layer.row(carry, row)
            rows.append(out)
        return jnp.stack(rows)

    variables = layer_variables(layer, x, method=whole)
    expected = numpy_row_lstm(
        jax.tree.map(np.asarray, variables["params"]), np.asarray(x), size, groups
    )
    found = jax.jit(lambda variables, x: layer.apply(variables, x, method=whole))(variables, x)
    np.testing.assert_allclose(found, expected, atol=1e-12)
