"""The initialisation of weight-normalized convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.layers.weight_norm import NormedConv, TransposedConv
from tests.cases import normal
from tests.models.openai_pixel_cnn import uncropped_deconv


@pytest.mark.parametrize("right", [0, 1])
def test_a_transposed_convolution_counts_what_it_crops(x64, right):
    layer = TransposedConv(
        in_features=3, features=5, kernel_height=2, left=1, right=right, dtype="float64"
    )
    x = normal(4, 3, 5, 3)
    out, variables = layer.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(out, layer.apply(variables, x), rtol=1e-10)
    uncropped = uncropped_deconv(variables["params"], x)
    np.testing.assert_allclose(np.mean(uncropped, axis=(0, 1, 2)), 0, atol=1e-10)
    np.testing.assert_allclose(np.std(uncropped, axis=(0, 1, 2)), 1, rtol=1e-6)


def test_a_constant_output_is_not_blown_up():
    layer = NormedConv(in_features=3, features=5)
    variables = layer.init(jax.random.key(0), jnp.ones((4, 3, 3, 3)))
    np.testing.assert_array_equal(variables["params"]["scale"], 1)
    np.testing.assert_allclose(layer.apply(variables, jnp.ones((4, 3, 3, 3))), 0, atol=1e-6)
