"""The third view: a whole block at once, from the carry and context of the next-site view."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import sampling
from tests.cases import (
    LIKELIHOODS,
    WITH_BLOCKS,
    block_params,
    make,
    one_line_error,
    perturbed,
    some_images,
    some_labels,
    whole_image_params,
)


def test_which_models_have_it():
    """Not Diagonal BiLSTM, whose row is a recurrence; a new one need not."""
    kinds = {name.partition("-")[0] for name in WITH_BLOCKS}
    assert kinds >= {"PixelCNN", "GatedPixelCNN", "RowLSTM", "ImageTransformer"}
    assert "DiagonalBiLSTM" not in kinds


@pytest.mark.parametrize("name", ["DiagonalBiLSTM", "PixelCNNPlusPlus"])
def test_without_it_the_methods_there_are_are_named(name):
    model, key = make(name, "bernoulli"), jax.random.key(0)
    images = np.zeros((1, *model.image_shape), np.int32)
    method = "block_fixed_point"
    for call in (
        lambda: sampling.sample(model, {}, key, 2, method=method),
        lambda: sampling.complete(model, {}, key, images, images > 0, method=method),
    ):
        with one_line_error(f"{name} has no block view .*; accepted: scan, naive, fixed_point$"):
            call()


@pytest.mark.parametrize("name", WITH_BLOCKS)
@pytest.mark.parametrize("case", LIKELIHOODS)
@pytest.mark.parametrize("size", [(4, 5)])
def test_blocks_reproduce_the_whole_image(x64, name, case, size):
    model = make(name, case, size, dtype="float64")
    variables, images, labels = perturbed(model), some_images(model, 3), some_labels(model, 3)
    expected = whole_image_params(model, variables, images, labels)
    found = block_params(model, variables, images, labels)
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_bfloat16_blocks_carry_on_as_steps_do(name):
    """The loops of the samplers take carries of one type."""
    model = make(name, "categorical", dtype="bfloat16")
    images, labels = some_images(model, 2), some_labels(model, 2)
    known, key, ids = np.zeros(images.shape, bool), jax.random.key(0), np.arange(2)
    temperature = np.float32(1)
    request = sampling.Request(perturbed(model), key, ids, images, known, labels, temperature)
    for method in ("scan", "block_fixed_point"):
        drawn = jax.eval_shape(functools.partial(sampling.generate, model, method=method), request)
        assert drawn.images.shape == (2, *model.image_shape)
