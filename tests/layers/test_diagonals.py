"""Images of a batch, side by side in one scan."""

import numpy as np

from gen_jax.layers.diagonals import one_by_one, side_by_side
from tests.cases import normal


def test_images_stand_side_by_side(x64):
    """k images of a batch follow one another along the rows; and back."""
    x = normal(2, 3, 8, 5)
    strips = side_by_side(x, 4)
    assert strips.shape == (2, 12, 2, 5)
    # Neighbours in the batch are neighbours in the strip.
    np.testing.assert_array_equal(strips[:, 3:6, 1], x[:, :, 5])
    np.testing.assert_array_equal(one_by_one(strips, 4), x)
