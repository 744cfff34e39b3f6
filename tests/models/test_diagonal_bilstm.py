"""What Diagonal BiLSTM can see, alone and with other images beside it."""

import numpy as np
import pytest

from gen_jax.layers.diagonals import images_side_by_side
from tests import cases
from tests.cases import dependencies, make, some_images, some_labels, whole_image_params


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
