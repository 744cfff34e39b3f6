"""The blind spot of PixelCNN."""

import numpy as np
import pytest

from tests.cases import make

PICTURES = {
    # What the pixel * reads through a first layer of 3 × 3 and `num_layers` blocks of 3 × 3,
    # drawn by hand: one column further to the right a row up, and no more.
    1: ["....#####.", "....####..", "....##*...", ".........."],
    3: ["..#######.", "..######..", "..####*...", ".........."],
}


@pytest.mark.parametrize("num_layers", PICTURES)
def test_blind_spot_of_pixel_cnn(num_layers):
    """The documented field is the cone of the paper's figure, here drawn by hand."""
    model = make("PixelCNN", "bernoulli", (4, 10), num_layers=num_layers, first_kernel_size=3)
    picture = np.array([list(row) for row in PICTURES[num_layers]])
    np.testing.assert_array_equal(model.receptive_field()[2, 6, 0, :, :, 0], picture == "#")


def test_blind_spot_stays_at_any_depth():
    """With k rows crossed, no more than k columns to the right: however many layers."""
    model = make("PixelCNN", "bernoulli", (5, 7), num_layers=40, first_kernel_size=3)
    field = model.receptive_field()[:, :, 0, :, :, 0]
    for r, c, up, left in np.ndindex(5, 7, 5, 7):
        earlier = (up, left) < (r, c)
        assert field[r, c, up, left] == (earlier and left - c <= r - up)
