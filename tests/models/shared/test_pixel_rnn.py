"""Dropout of models whose rows are one scan."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import cases
from tests.cases import make, some_images


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
