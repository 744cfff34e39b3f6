"""Causal attention over query blocks, against a dense oracle; what it keeps in memory."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.layers.attention import Cached, CausalAttention, Memory, attend, attend_many
from gen_jax.layers.query_blocks import Attention, QueryBlocks
from tests.cases import SHAPES_2D, normal


def dense_attention(queries, keys, values, seen):
    """Softmax over all keys at once, with a square of scores; NumPy."""
    scores = np.einsum("bhqd,bhkd->bhqk", queries, keys) / np.sqrt(queries.shape[-1])
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("bhqk,bhkd->bhqd", weights, values)


def test_runs_of_keys_share_one_softmax(x64):
    queries, keys, values = (normal(2, 3, n, 4, seed=n) for n in (5, 9, 9))
    mask = np.random.default_rng(0).random((5, 9)) < 0.5
    mask[:, -1] = True
    runs = [
        Memory(Cached(keys[:, :, a:b], values[:, :, a:b]), jnp.asarray(mask[:, a:b]))
        for a, b in ((0, 4), (4, 4), (4, 9))
    ]
    expected = dense_attention(*map(np.asarray, (queries, keys, values)), mask)
    np.testing.assert_allclose(attend(queries, runs), expected, atol=1e-12)


def test_scores_and_softmax_are_wider_than_bfloat16():
    """Scores of 256 and 257 are one number in bfloat16, and e to 1 in the weights."""
    queries, keys, values = (
        jnp.asarray(np.reshape(x, (1, 1, -1, 4)), jnp.bfloat16)
        for x in ([32, 2, 0, 0], [[16, 0, 0, 0], [16, 1, 0, 0]], [[0] * 4, [1] * 4])
    )
    by_cells = (jnp.swapaxes(x, 2, 3) for x in (keys, values))
    for attended in (
        attend(queries, [Memory(Cached(keys, values))]),
        attend_many(queries, *by_cells, jnp.ones((1, 2), bool)),
    ):
        assert attended.dtype == jnp.bfloat16
        np.testing.assert_allclose(attended.astype(float), 1 / (1 + np.exp(-1)), rtol=1e-2)


BLOCKS = [
    QueryBlocks("full", 4, 5, (1, 5)),
    QueryBlocks("full", 1, 2, (1, 1)),
    QueryBlocks("local_1d", 4, 6, (1, 6)),
    QueryBlocks("local_1d", 3, 14, (1, 22)),
    *(QueryBlocks("local_2d", *shape) for shape in SHAPES_2D),
    # Flanges over several blocks, and in one direction only.
    *(QueryBlocks("local_2d", 6, 8, (2, 2), flange) for flange in ((3, 5), (0, 5), (3, 0))),
]


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_blockwise_attention_is_dense_attention(x64, blocks):
    """The whole-image view, and its gradient, against one softmax under `seen`."""
    layer = CausalAttention(features=8, num_heads=2, blocks=blocks, out_scale=1.0, dtype="float64")
    sites = blocks.order.size
    x = normal(2, sites, 8)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: normal(*leaf.shape, seed=leaf.size), shapes)
    p = jax.tree.map(np.asarray, variables["params"])

    def oracle(x):
        qkv = (x @ p["qkv"]["kernel"] + p["qkv"]["bias"]).reshape(2, sites, 3, 2, 4)
        attended = dense_attention(*np.transpose(qkv, (2, 0, 3, 1, 4)), blocks.seen())
        joined = attended.transpose(0, 2, 1, 3).reshape(2, sites, 8)
        return joined @ p["out"]["kernel"] + p["out"]["bias"]

    direction = normal(2, sites, 8, seed=5)
    weights = normal(2, sites, 8, seed=6)

    def score(x):
        attended = layer.apply(variables, x)
        return jnp.sum(weights * attended), attended

    @jax.jit
    def score_and_slopes(x):
        _, (slope, _) = jax.jvp(score, (x,), (direction,))
        return jax.grad(score, has_aux=True)(x), slope

    (gradient, attended), slope = score_and_slopes(x)
    np.testing.assert_allclose(attended, oracle(np.asarray(x)), atol=1e-10)
    np.testing.assert_allclose(jnp.sum(gradient * direction), slope, rtol=1e-9)
    step = 1e-6 * np.asarray(direction)
    difference = oracle(np.asarray(x) + step) - oracle(np.asarray(x) - step)
    np.testing.assert_allclose(slope, np.sum(np.asarray(weights) * difference) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize("attention", ["local_1d", "local_2d"])
def test_memory_grows_with_the_sites_not_with_their_square(attention):
    """What the compiled gradient of a local layer needs, from 16² to 32² sites."""
    needed = []
    for size in (16, 32):
        blocks = QueryBlocks(attention, size, size, (4, 8), (4, 8))
        layer = CausalAttention(
            features=8, num_heads=2, blocks=blocks, out_scale=1.0, dtype="float32"
        )
        x = jax.ShapeDtypeStruct((1, size * size, 8), jnp.float32)
        variables = jax.eval_shape(layer.init, jax.random.key(0), x)

        def loss(variables, x, layer=layer):
            return jnp.sum(layer.apply(variables, x) ** 2)

        compiled = jax.jit(jax.grad(loss)).lower(variables, x).compile()
        needed.append(compiled.memory_analysis().temp_size_in_bytes)
    assert needed[1] < 5 * needed[0]
    assert needed[1] < 4 * 2 * (32 * 32) ** 2 / 8  # of one square of scores of two heads


@pytest.mark.parametrize("attention", get_args(Attention))
def test_no_scores_are_kept_for_the_backward_pass(attention):
    """What the gradient of a layer keeps is no larger than its queries, keys and values here."""
    blocks = QueryBlocks(attention, 16, 16, (4, 8), (4, 8))
    layer = CausalAttention(features=8, num_heads=2, blocks=blocks, out_scale=1.0, dtype="float32")
    x = normal(1, 256, 8)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    _, backward = jax.vjp(lambda x: layer.apply(variables, x), x)
    kept = [leaf for leaf in jax.tree.leaves(backward) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    # Scores would be 5 times as many in the smallest case.
    assert max(leaf.size for leaf in kept) <= 3 * x.size
