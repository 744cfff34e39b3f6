"""The recurrent layers against a plain double loop over pixels, and what they can see."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.layers.diagonal_bilstm import DiagonalBiLSTMLayer
from gen_jax.layers.diagonals import images_side_by_side, one_by_one, side_by_side
from gen_jax.layers.recurrence import RowLSTMLayer, lstm
from tests import cases
from tests.cases import (
    dependencies,
    layer_variables,
    make,
    normal,
    some_images,
    some_labels,
    whole_image_params,
)

FEATURES = 6  # h, in three groups or in one


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_cell(gates, memory):
    """Van den Oord et al. 2016, equation 3."""
    o, f, i, g = np.split(gates, 4, axis=-1)
    memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(memory), memory


def masked_input(kernel, groups, features=FEATURES):
    """The centre tap of input-to-state: each gate's group o reads groups i <= o. By hand."""
    kernel = kernel.copy()
    for i, o in np.ndindex(kernel.shape):
        if i // (2 * features // groups) > o % features // (features // groups):
            kernel[i, o] = 0
    return kernel


def masked_out(kernel, groups, features=FEATURES):
    kernel = kernel.copy()
    for i, o in np.ndindex(kernel.shape):
        if i // (features // groups) > o // (2 * features // groups):
            kernel[i, o] = 0
    return kernel


class Pixels(dict):
    """States by (row, column); zero outside the image."""

    def __init__(self, batch):
        super().__init__()
        self.zeros = np.zeros((batch, FEATURES))

    def __missing__(self, key):
        return self.zeros


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


def test_lstm_cell(x64):
    gates, memory = normal(3, 4 * FEATURES), normal(3, FEATURES, seed=1)
    expected = numpy_cell(np.asarray(gates), np.asarray(memory))
    for found, by_hand in zip(lstm(gates, memory), expected, strict=True):
        np.testing.assert_allclose(found, by_hand, rtol=1e-12)


SIZES = [(5, 5), (2, 6), (6, 3), (1, 4), (4, 1)]


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


def test_images_stand_side_by_side(x64):
    """k images of a batch follow one another along the rows; and back."""
    x = normal(2, 3, 8, 5)
    strips = side_by_side(x, 4)
    assert strips.shape == (2, 12, 2, 5)
    # Neighbours in the batch are neighbours in the strip.
    np.testing.assert_array_equal(strips[:, 3:6, 1], x[:, :, 5])
    np.testing.assert_array_equal(one_by_one(strips, 4), x)


TRIANGLES = {
    # What the pixel * reads, drawn by hand: a first layer of 3 × 3, then layers whose states come
    # from three columns of the row above each, and whose input also from the column to the left.
    1: ["..#######...", "...#####....", "....##*.....", "............"],
    2: [".########...", "..######....", "...###*.....", "............"],
}


@pytest.mark.parametrize("num_layers", TRIANGLES)
def test_triangle_of_row_lstm(num_layers):
    """One column further to the right a row up, whatever the depth; to the left by depth too."""
    model = make("RowLSTM", "bernoulli", (4, 12), num_layers=num_layers, first_kernel_size=3)
    picture = np.array([list(row) for row in TRIANGLES[num_layers]])
    np.testing.assert_array_equal(model.receptive_field()[2, 6, 0, :, :, 0], picture == "#")


def test_triangle_stays_at_any_depth():
    """Unlike Diagonal BiLSTM: with k rows crossed, no more than k columns to the right."""
    model = make("RowLSTM", "bernoulli", (5, 9), num_layers=30, first_kernel_size=3)
    field = model.receptive_field()[:, :, 0, :, :, 0]
    for r, c, up, left in np.ndindex(5, 9, 5, 9):
        assert field[r, c, up, left] == ((up, left) < (r, c) and left - c <= r - up)


@pytest.mark.parametrize("case", ["bernoulli", "categorical-rgb"])
def test_one_diagonal_layer_sees_all_that_came_before(x64, case):
    """Every earlier site and no other, already at depth one."""
    model = make("DiagonalBiLSTM", case, (4, 6), num_layers=1, dtype="float64", features=9)
    found = dependencies(model)
    np.testing.assert_array_equal(found, np.tri(len(found), k=-1, dtype=bool))


def test_neighbours_side_by_side_do_not_touch(x64):
    """A large batch, in which images stand side by side, scores as its parts do alone."""
    model = make("DiagonalBiLSTM", "categorical", dtype="float64")
    batch = 16
    assert images_side_by_side(batch) > images_side_by_side(4) == 1
    variables = cases.perturbed(model)
    images, labels = some_images(model, batch), some_labels(model, batch)
    whole = whole_image_params(model, variables, images, labels)
    for n in range(0, batch, 4):
        part = whole_image_params(model, variables, images[n : n + 4], labels[n : n + 4])
        np.testing.assert_allclose(whole[n : n + 4], part, atol=1e-12)


def constant_rows(model):
    """Variables with which, without dropout, all rows of any image but the first are alike.

    Nothing is read from the image; the forget gates are shut, so that states do not grow down the
    rows, and the input and output gates open.
    """
    h = model.rounded_features

    def leaf(path, x):
        name = jax.tree_util.keystr(path)
        if "gates" in name or "_to_" in name:  # o, f, i, g
            open_and_shut = np.repeat([5.0, -50.0, 5.0, 1.0], h)
            return jnp.asarray(open_and_shut if "bias" in name else np.zeros(x.shape), x.dtype)
        return x if "out" in name or "head" in name else jnp.zeros_like(x)

    return jax.tree_util.tree_map_with_path(leaf, cases.perturbed(model))


@pytest.mark.parametrize("name", ["RowLSTM", "DiagonalBiLSTM"])
def test_each_row_has_its_own_dropout(x64, name):
    """Rows of a scan share parameters, not masks; and their backward pass has the same masks."""
    model = make(name, "bernoulli", (5, 4), dropout=0.5, dtype="float64")
    variables, images = constant_rows(model), some_images(model, 2)

    @jax.jit
    def rows(variables, key):
        return model.apply(variables, images, rngs={"dropout": key})[:, 1:]

    plain = model.apply(variables, images)[:, 1:]
    np.testing.assert_allclose(plain, jnp.broadcast_to(plain[:, :1], plain.shape), atol=1e-12)
    dropped = np.asarray(rows(variables, jax.random.key(0)))
    for a, b in itertools.combinations(range(dropped.shape[1]), 2):
        assert (dropped[:, a] != dropped[:, b]).any(axis=(1, 2, 3)).all(), (a, b)

    direction, key = cases.perturbed(model, seed=1), jax.random.key(1)
    along = jax.jit(
        lambda t: jnp.sum(
            jnp.sin(rows(jax.tree.map(lambda v, d: v + t * d, variables, direction), key))
        )
    )
    difference = (along(1e-6) - along(-1e-6)) / 2e-6
    np.testing.assert_allclose(jax.jit(jax.grad(along))(0.0), difference, rtol=1e-5)
