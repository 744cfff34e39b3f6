"""All methods, one distribution: equal images, exact completion, as few passes as need be."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gen_jax.sampling.methods import methods_of
from tests.cases import FEW, by_site, every_model, generation_order, perturbed, some_labels
from tests.sampling.in_double import BATCH, complete, in_double, run, sample


@pytest.fixture(scope="module", params=FEW, ids="-".join)
def double(request):
    """Model and variables in float64; of module scope, so that a case compiles once."""
    with jax.enable_x64(True):
        model = in_double(*request.param)
        return model, perturbed(model)


def test_methods_agree(x64, double):
    """Equal images at every temperature, sampling and completing, a block known or none."""
    model, variables = double
    labels = some_labels(model, BATCH)
    rng = np.random.default_rng(0)
    shape = (BATCH, *model.image_shape)
    images = rng.integers(0, model.likelihood.levels, shape, np.int32)  # as `sample`: one program
    nothing = np.zeros(images.shape, bool)
    part = rng.random(images.shape) < 0.4  # channels of a pixel apart
    of_first_block = by_site(model, part)
    of_first_block[:, model.blocks()[0][model.blocks()[0] >= 0]] = True
    part = of_first_block.reshape(part.shape)
    sites = generation_order(model).size
    for temperature, known in itertools.product((0.0, 0.7, 1.0), (nothing, part)):
        results = {
            method: run(model, variables, images, known, labels, method, temperature)
            for method in methods_of(model)
        }
        first = np.asarray(results["scan"].images)
        for result in results.values():
            np.testing.assert_array_equal(first, result.images)
        np.testing.assert_array_equal(first[known], images[known])
        assert first.max() < model.likelihood.levels
        passes = {method: int(result.passes) for method, result in results.items()}
        assert (passes["scan"], passes["naive"]) == (1, sites)
        assert passes["fixed_point"] <= sites + 1
        blocks = len(model.blocks())
        assert blocks <= passes.get("block_fixed_point", blocks) <= model.blocks().size + blocks
    np.testing.assert_array_equal(
        sample(model, variables),
        run(model, variables, images, nothing, labels, "scan").images,
    )


def test_completion_of_a_sample_gives_it_back(double):
    """With its own key and any part of it known, channels of a pixel apart: the same image."""
    with jax.enable_x64(True):
        model, variables = double
        images = sample(model, variables)

        @settings(max_examples=12, deadline=None, derandomize=True, database=None)
        @given(hnp.arrays(bool, images.shape, elements=st.booleans(), fill=st.booleans()))
        def holds(known):
            np.testing.assert_array_equal(complete(model, variables, images, known), images)
            # Nor does it matter what stands where nothing is known.
            other = np.where(known, images, model.likelihood.levels - 1 - images)
            np.testing.assert_array_equal(complete(model, variables, other, known), images)

        holds()


def test_completion_keeps_and_reads_what_is_known(x64, double):
    """Known values stand, later sites depend on them, earlier ones do not."""
    model, variables = double
    order = generation_order(model)
    shape = (BATCH, *model.image_shape)
    known = np.zeros(by_site(model, np.zeros(shape)).shape, bool)
    third = order.size // 3
    known[:, order[third : 2 * third]] = True
    known = known.reshape(shape)
    for first in range(0, 100 * BATCH, BATCH):  # a single bit may move few draws: until one does
        completed = [
            complete(model, variables, np.full(shape, level), known, first=first)
            for level in range(model.likelihood.levels)
        ]
        for level, images in enumerate(completed):
            assert (images[known] == level).all()
        sites = np.stack([by_site(model, images) for images in completed])[:, :, order]
        assert (sites[:, :, :third] == sites[0, :, :third]).all()
        if (sites[:, :, 2 * third :] != sites[0, :, 2 * third :]).any():
            return
    pytest.fail("no later site depends on what is known")


@every_model
def test_fixed_point_stops_as_soon_as_nothing_changes(x64, name):
    """A model that reads nothing is drawn in one pass and checked in a second."""
    model = in_double(name, "categorical")
    variables = jax.tree.map(jnp.zeros_like, perturbed(model))
    given, known = np.ones((BATCH, *model.image_shape), np.int32), np.zeros((), bool)
    known = np.broadcast_to(known, given.shape)
    labels = some_labels(model, BATCH)
    result = run(model, variables, given, known, labels, "fixed_point")
    assert int(result.passes) == 2
    all_known = np.ones_like(known)
    result = run(model, variables, given, all_known, labels, "fixed_point")
    assert int(result.passes) == 1
    np.testing.assert_array_equal(result.images, given)
    if "block_fixed_point" in methods_of(model):
        blocks, method = len(model.blocks()), "block_fixed_point"
        result = run(model, variables, given, known, labels, method)
        assert blocks < int(result.passes) <= 2 * blocks  # one at most is guessed right
        result = run(model, variables, given, all_known, labels, method)
        assert int(result.passes) == blocks
        np.testing.assert_array_equal(result.images, given)
