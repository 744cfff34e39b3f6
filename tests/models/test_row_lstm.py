"""What Row LSTM can see."""

import numpy as np
import pytest

from tests.cases import make

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
