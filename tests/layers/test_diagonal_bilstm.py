"""Diagonal BiLSTM's layer against a plain double loop over pixels."""

import jax
import numpy as np
import pytest

from gen_jax.layers.diagonal_bilstm import DiagonalBiLSTMLayer
from gen_jax.layers.diagonals import images_side_by_side
from tests.cases import layer_variables, normal
from tests.layers.lstm_by_hand import FEATURES, Pixels, masked_input, masked_out, numpy_cell


def numpy_direction(p, x, groups, step):
    """States of one direction: from the left (step 1) or from the right (step −1)."""
    height, width, batch, _ = x.shape
    states, memories = Pixels(batch), Pixels(batch)
    for i in range(height):
        for j in range(width)[::step]:
            gates = x[i, j] @ masked_input(p["kernel_input"][0], groups) + p["bias"]
            gates = gates + states[i, j - step] @ p["kernel_state"][0]
            gates = gates + states[i - 1, j] @ p["kernel_state"][1]
            states[i, j], memories[i, j] = numpy_cell(gates, memories[i, j - step])
    return states


def numpy_diagonal_bilstm(p, x, groups, own_pixel=None):
    """[H, W, B, 2h], pixel by pixel; the right-to-left states come from the row above."""
    left = numpy_direction(p["left_to_right"], x, groups, 1)
    right = numpy_direction(
        p["right_to_left"], x if own_pixel is None else x + own_pixel, groups, -1
    )
    out = np.empty_like(x)
    for i, j in np.ndindex(x.shape[:2]):
        state = left[i, j] + right[i - 1, j]
        out[i, j] = x[i, j] + state @ masked_out(p["out"]["kernel"][0], groups) + p["out"]["bias"]
    return out


SIZES = [(5, 5), (2, 6), (6, 3), (1, 4), (4, 1)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("batch", [2, 16])
def test_skewed_scan_is_a_double_loop(x64, size, groups, batch):
    """Both directions in one scan over diagonals, alone or several images side by side."""
    assert images_side_by_side(batch) == batch // 8 or batch < 16
    layer = DiagonalBiLSTMLayer(features=FEATURES, groups=groups, dropout=0.0, dtype="float64")
    x, own_pixel = (normal(*size, batch, 2 * FEATURES, seed=seed) for seed in range(2))
    variables = layer_variables(layer, x)
    p = jax.tree.map(np.asarray, variables["params"])
    for inputs in ((x,), (x, own_pixel)):
        found = jax.jit(layer.apply)(variables, *inputs)
        expected = numpy_diagonal_bilstm(p, np.asarray(x), groups, *map(np.asarray, inputs[1:]))
        np.testing.assert_allclose(found, expected, atol=1e-12)
