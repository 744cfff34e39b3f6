"""Image Transformer: what it sees, blocks that do not divide the image, its forms and fields."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import sampling
from tests.cases import (
    SHAPES_2D,
    block_params,
    make,
    next_site_params,
    one_line_error,
    perturbed,
    some_images,
    whole_image_params,
)


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
