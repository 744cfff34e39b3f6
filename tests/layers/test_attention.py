"""Query blocks and causal attention: who sees whom, against the definition and a dense oracle."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_jax import sampling
from gen_jax.layers.attention import Cached, CausalAttention, Memory, attend, attend_many
from gen_jax.layers.query_blocks import QueryBlocks
from tests.cases import (
    block_params,
    make,
    next_site_params,
    normal,
    one_line_error,
    perturbed,
    some_images,
    whole_image_params,
)

KINDS = ("full", "local_1d", "local_2d")


# Query blocks.


def spec_2d(rows, columns, size, flange):
    """SPECS: what one layer's view of each site is, site by site; sites are (row, column).

    The keys that site n attends to are at the cells of its own block up to itself, and of two
    flanges: one above, f_h × (q_w + 2 f_w), and one to the left, q_h × f_w; all inside the image.
    """
    (q_h, q_w), (f_h, f_w) = size, flange
    blocks = itertools.product(range(0, rows, q_h), range(0, columns, q_w))
    order, view = [], {}
    for top, left in blocks:
        own = []
        for r, c in itertools.product(range(top, top + q_h), range(left, left + q_w)):
            if r >= rows or c >= columns:
                continue
            own.append((r, c))
            memory = {
                (i, j)
                for i, j in itertools.product(range(rows), range(columns))
                if (top - f_h <= i < top and left - f_w <= j < left + q_w + f_w)
                or (top <= i < top + q_h and left - f_w <= j < left)
            }
            view[r, c] = memory | set(own)
        order += own
    return order, view


SHAPES_2D = [  # rows, columns, query block, flange: blocks that divide the image, and not
    (4, 6, (2, 3), (1, 2)),
    (4, 6, (2, 2), (3, 1)),
    (2, 21, (2, 11), (2, 3)),
    (21, 4, (11, 2), (5, 2)),
    (6, 6, (2, 2), (0, 0)),
]


@pytest.mark.parametrize(("rows", "columns", "size", "flange"), SHAPES_2D)
def test_one_layer_of_local_2d_sees_what_the_definition_says(rows, columns, size, flange):
    """The key at a cell holds the level of the site before it, across the borders of blocks."""
    order, view = spec_2d(rows, columns, size, flange)
    before = dict(zip(order[1:], order[:-1], strict=True))
    model = make(
        "ImageTransformer-2d",
        "bernoulli",
        (rows, columns),
        num_layers=1,
        query_block=size,
        memory_flange=flange,
    )
    assert model.query_blocks.size == size
    field = model.receptive_field()[:, :, 0, :, :, 0]
    for n in order:
        expected = {before[p] for p in view[n] if p in before}
        assert {tuple(p) for p in np.argwhere(field[n]).tolist()} == expected, n
    # Every site but the last is a key exactly once.
    assert sorted(before.values()) == sorted(order[:-1])


def test_a_picture_of_local_2d():
    """4 × 6, blocks of 2 × 3, flanges 1 × 2: what the site * in the last block attends to."""
    picture = [
        "......",
        ".#####",  # the flange above, to both sides where the image goes on
        ".#####",
        ".##*..",
    ]
    blocks = QueryBlocks("local_2d", 4, 6, (2, 3), (1, 2))
    seen = blocks.seen().reshape(4, 6, 4, 6)[3, 3]
    expected = np.array([[cell in "#*" for cell in row] for row in picture])
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize(("rows", "columns", "length"), [(4, 6, 6), (4, 5, 4), (3, 14, 22)])
def test_local_1d_sees_its_block_and_the_one_before(rows, columns, length):
    blocks = QueryBlocks("local_1d", rows, columns, (1, length))
    assert blocks.size == (1, length)
    n, m = np.indices((rows * columns,) * 2)
    same_or_previous = (n // length - m // length) <= 1
    np.testing.assert_array_equal(blocks.seen(), (m <= n) & same_or_previous)
    np.testing.assert_array_equal(blocks.order, np.arange(rows * columns))


@pytest.mark.parametrize(
    ("rows", "columns", "length"), [(1, 1, 1), (4, 5, 5), (3, 7, 6), (28, 28, 196), (28, 28, 784)]
)
def test_full_sees_everything_before(rows, columns, length):
    blocks = QueryBlocks("full", rows, columns, (1, length))
    np.testing.assert_array_equal(blocks.seen(), np.tri(rows * columns, dtype=bool))
    np.testing.assert_array_equal(blocks.order, np.arange(rows * columns))


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_blocks_of_any_image(attention, shape, size, flange):
    """Every site once, at most 5 % more steps, and a memory generated before its block."""
    blocks = QueryBlocks(attention, *shape, size, flange)
    np.testing.assert_array_equal(np.sort(blocks.order), np.arange(shape[0] * shape[1]))
    assert blocks.cells.size <= 1.05 * blocks.order.size
    assert blocks.cells.dtype == np.int32
    generated = set()
    for own, memory in zip(blocks.cells, blocks.memory, strict=True):
        remembered = memory[memory >= 0].tolist()
        assert len(set(remembered)) == len(remembered)
        assert generated.issuperset(remembered)
        generated.update(own[own >= 0].tolist())


def test_blocks_are_as_asked_for_where_they_divide():
    assert QueryBlocks("local_2d", 32, 96, (16, 16)).size == (16, 16)
    assert QueryBlocks("local_1d", 32, 96, (1, 256)).size == (1, 256)
    # 16 × 16 on 28 × 28 would waste 31 % of the steps.
    assert QueryBlocks("local_2d", 28, 28, (16, 16)).size == (14, 14)


def test_some_pairs_never_connect():
    """Local attention at any depth: the documented field is not all that came before."""
    field = make(
        "ImageTransformer-2d",
        "bernoulli",
        (8, 8),
        num_layers=40,
        query_block=(4, 4),
        memory_flange=(2, 2),
    )
    reached = field.receptive_field().reshape(64, 64).sum()
    assert 0.9 < reached / (64 * 63 / 2) < 1


# Attention.


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


@pytest.mark.parametrize("attention", KINDS)
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


# The model.


def test_the_first_site_reads_no_token(x64):
    """Its input is nothing, not the embedding of level 0; and every other site reads one."""
    for name in ("ImageTransformer-full", "ImageTransformer-2d"):
        model = make(name, "categorical-rgb", (2, 3), dtype="float64")
        variables, images = perturbed(model), some_images(model, 1)
        first = int(model.query_blocks.order[0])

        def outputs(table, model=model, variables=variables, images=images):
            p = {**variables["params"], "embedding": {"embedding": table}}
            return model.apply({"params": p}, images).reshape(18, -1)

        jacobian = jax.jit(jax.jacobian(outputs))(variables["params"]["embedding"]["embedding"])
        reads = np.asarray(jnp.any(jacobian != 0, axis=(1, 2, 3)))
        np.testing.assert_array_equal(reads, np.arange(18) != first)


PADDED = [
    ("full", (1, 23), {}),
    ("1d", (1, 23), {"query_block": 12}),
    ("2d", (2, 21), {"query_block": (2, 11), "memory_flange": (2, 3)}),
    ("2d", (21, 4), {"query_block": (11, 2), "memory_flange": (5, 1)}),
]


@pytest.mark.parametrize(("name", "size", "fields"), PADDED, ids=str)
def test_padded_blocks_in_all_views(x64, name, size, fields):
    """Blocks that do not divide the image: the same parameters, and the same images."""
    model = make(f"ImageTransformer-{name}", "bernoulli", size, dtype="float64", **fields)
    assert (model.blocks() < 0).any()
    variables, images = perturbed(model), some_images(model, 2)
    whole = whole_image_params(model, variables, images, None)
    steps = next_site_params(model, variables, images, None)
    blocks = block_params(model, variables, images, None)
    np.testing.assert_allclose(steps, whole, atol=1e-10)
    np.testing.assert_allclose(blocks, whole, atol=1e-10)
    scan, *others = (
        sampling.sample(model, variables, jax.random.key(3), 4, method=method)
        for method in ("scan", "fixed_point", "block_fixed_point")
    )
    for other in others:
        np.testing.assert_array_equal(other, scan)


def test_steps_of_full_attention_on_an_accelerator(x64, monkeypatch):
    """There a step masks what is not complete, and has no branches: the same parameters."""
    model = make("ImageTransformer-full", "bernoulli", (3, 5), dtype="float64")
    variables, images = perturbed(model), some_images(model, 2)
    whole = whole_image_params(model, variables, images, None)
    steps = jax.jit(lambda *x: next_site_params.__wrapped__(model, *x, None))
    traced = steps.trace(variables, images)
    on_cpu, on_gpu = (
        traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "cuda")
    )
    assert on_gpu.count("stablehlo.case") < on_cpu.count("stablehlo.case")
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda cpu, default: default())
    jax.clear_caches()
    assert "cond" not in str(jax.make_jaxpr(steps)(variables, images))
    np.testing.assert_allclose(steps(variables, images), whole, atol=1e-10)


@pytest.mark.parametrize("features", [7, 8])
@pytest.mark.parametrize("positions", ["sinusoid", "learned"])
def test_every_site_has_its_own_position(positions, features):
    model = make(
        "ImageTransformer-full",
        "categorical-rgb",
        (5, 4),
        positions=positions,
        features=features,
        num_heads=1,
    )
    table = model.apply(perturbed(model), method="position_table")
    assert table.shape == (60, features)
    assert len(np.unique(np.asarray(table).round(6), axis=0)) == 60


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (
            "full",
            {"features": 6, "num_heads": 4},
            "features is 6; accepted: multiples of num_heads, 4",
        ),
        ("full", {"num_heads": 0}, "num_heads is 0; accepted: whole numbers of at least 1"),
        ("full", {"feedforward_features": 0}, "feedforward_features is 0"),
        ("full", {"attention": "local"}, "attention is 'local' .*; accepted: local_1d, local_2d"),
        ("full", {"positions": "none"}, "positions is 'none'; accepted: sinusoid, learned"),
        ("full", {"query_block": 1, "image_shape": (5, 4, 1)}, "query_block is 1; accepted"),
        ("full", {"query_block": (1, 4)}, r"query_block is \(1, 4\); accepted: whole numbers"),
        ("1d", {"query_block": (2, 2)}, r"query_block is \(2, 2\); accepted: whole numbers"),
        ("1d", {"query_block": 0}, "query_block is 0; accepted: whole numbers of at least 1"),
        ("1d", {"memory_flange": (1, 1)}, r"memory_flange is \(1, 1\); accepted: nothing"),
        ("2d", {"query_block": 4}, "query_block is 4; accepted: 2 whole"),
        ("2d", {"query_block": (2.0, 2)}, r"query_block is \(2.0, 2\); accepted: 2 whole"),
        ("2d", {"memory_flange": ("1", 2)}, r"memory_flange is \('1', 2\); accepted: 2 whole"),
        ("2d", {"query_block": (0, 2)}, r"query_block is \(0, 2\); accepted: 2 whole"),
        ("2d", {"memory_flange": (-1, 2)}, r"memory_flange is \(-1, 2\); accepted: 2 whole"),
    ],
    ids=str,
)
def test_fields_that_do_not_fit(name, fields, message):
    with one_line_error(message):
        make(f"ImageTransformer-{name}", "bernoulli", **fields)


def test_full_attention_is_sampled_in_one_block_where_that_is_faster(x64):
    """On accelerators: another form of the same model, and so the same images."""
    model = make("ImageTransformer-full", "bernoulli", (4, 6), dtype="float64")
    other = model.for_accelerator()
    assert [len(m.blocks()) for m in (model, other)] == [4, 1]
    local = make("ImageTransformer-1d", "bernoulli", (4, 6))
    assert all(m.for_accelerator() == m for m in (other, local))
    variables, key = perturbed(model), jax.random.key(0)
    images = [sampling.sample(m, variables, key, 3) for m in (model, other)]
    np.testing.assert_array_equal(*images)

    def program(platform):
        given = np.zeros((3, *model.image_shape), np.int32)
        request = sampling.Request(variables, key, np.arange(3), given, None)
        draw = jax.jit(lambda request: sampling.generate(model, request).images)
        return draw.trace(request).lower(lowering_platforms=(platform,)).as_text()

    cache = "tensor<3x2x{}x4xf64>"  # keys of a block: batch, heads, steps, features
    assert cache.format(6) in program("cpu")
    assert cache.format(24) not in program("cpu")
    assert cache.format(24) in program("cuda")
