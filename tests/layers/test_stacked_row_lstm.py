"""Row LSTM's other form, that from which an accelerator draws: the same model to whoever asks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import models, sampling
from tests.cases import (
    LIKELIHOODS,
    block_params,
    make,
    next_site_params,
    perturbed,
    some_images,
    some_labels,
    whole_image_params,
)

CASES = [*((case, (4, 5), {}) for case in LIKELIHOODS)]
CASES += [("bernoulli", (3, 1), {}), ("categorical-rgb", (2, 4), {"kernel_size": 5})]


@pytest.mark.parametrize(("case", "size", "fields"), CASES, ids=str)
def test_its_views_are_those_of_row_lstm(x64, case, size, fields):
    model = make("RowLSTM", case, size, dtype="float64", **fields)
    other = model.for_accelerator()
    assert type(other) is not type(model)
    inputs = perturbed(model), some_images(model, 3), some_labels(model, 3)
    expected = whole_image_params(model, *inputs)
    scale = float(jnp.abs(expected).max())
    for view in (whole_image_params, next_site_params, block_params):
        found = view(other, *inputs)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("case", ["bernoulli", "categorical-rgb", "mixture-rgb"])
def test_it_draws_and_completes_the_same_images(x64, case):
    model = make("RowLSTM", case, (4, 5), dtype="float64")
    variables, key, labels = perturbed(model), jax.random.key(0), some_labels(model, 3)
    images = some_images(model, 3)
    known = np.zeros(images.shape, bool)
    known[:, :2, :3] = known[:, 0] = True
    forms = (model, model.for_accelerator())
    for method in ("scan", "block_fixed_point"):
        drawn = [sampling.sample(m, variables, key, 3, labels=labels, method=method) for m in forms]
        np.testing.assert_array_equal(*drawn)
    completed = [sampling.complete(m, variables, key, images, known, labels=labels) for m in forms]
    np.testing.assert_array_equal(*completed)


@pytest.mark.parametrize("known", [None, True])
def test_it_is_drawn_from_on_an_accelerator_only(known):
    model = make("RowLSTM", "bernoulli", (4, 6), num_layers=3)
    given = np.zeros((5, *model.image_shape), np.int32)
    known = known and np.ones(given.shape, bool)
    request = sampling.Request(perturbed(model), jax.random.key(0), np.arange(5), given, known)

    def program(platform):
        draw = jax.jit(lambda request: sampling.generate(model, request).images)
        return draw.trace(request).lower(lowering_platforms=(platform,)).as_text()

    memory = "tensor<3x6x5x12xf32>"  # of all layers: width, batch, states and cells
    assert memory in program("cuda")
    assert memory not in program("cpu")


def test_a_model_of_ones_own_is_no_other():
    """What it changes would be lost in the other form."""

    class Wider(models.RowLSTM):
        pass

    model = make("RowLSTM", "bernoulli")
    own = Wider(model.image_shape, model.likelihood)
    assert own.for_accelerator() is own
    other = model.for_accelerator()
    assert other.for_accelerator() is other


def test_in_bfloat16_its_loops_carry_one_type():
    model = make("RowLSTM", "categorical", dtype="bfloat16").for_accelerator()
    drawn = sampling.sample(
        model, perturbed(model), jax.random.key(0), 2, labels=some_labels(model, 2)
    )
    assert drawn.shape == (2, *model.image_shape)
