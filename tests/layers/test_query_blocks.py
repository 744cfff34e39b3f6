"""Query blocks: who sees whom, against the definition."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_jax.layers.query_blocks import Attention, QueryBlocks


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
    st.sampled_from(get_args(Attention)),
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
