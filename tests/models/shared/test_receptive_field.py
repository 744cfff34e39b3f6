"""The documented field, where kernels reach beyond the image."""

import numpy as np
import pytest

from tests.cases import dependencies, documented_field, make


@pytest.mark.parametrize("name", ["PixelCNN", "RowLSTM"])
def test_no_path_leads_through_the_outside_of_the_image(x64, name):
    """Where later kernels reach further than the first, to the right too: the field is exact."""
    fields = {"first_kernel_size": 3, "kernel_size": 7, "features": 9, "dtype": "float64"}
    model = make(name, "bernoulli", (3, 7), **fields)
    np.testing.assert_array_equal(dependencies(model), documented_field(model))
