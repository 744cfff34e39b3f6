"""What the codec codes by: whole-number frequencies, and the coder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_jax.codec.entropy import PRECISION, STEPS, Decoder, Encoder, frequencies


def random_steps(rng, rows, levels, spread):
    steps = np.minimum(rng.exponential(spread, (rows, levels)), 65535).astype(np.uint16)
    steps[np.arange(rows), rng.integers(0, levels, rows)] = 0
    return steps


@pytest.mark.quick
@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.sampled_from([2, 3, 17, 256, 1000, 65536]),
    st.sampled_from([0.0, 1.0, 300.0, 3e3, 1e5]),
)
def test_frequencies_are_whole_and_add_up(seed, rows, levels, spread):
    """And are the probabilities, to what 24 bits say of them."""
    steps = random_steps(np.random.default_rng(seed), rows, levels, spread)
    counts = frequencies(steps)
    assert counts.dtype == np.int64
    assert counts.min() >= 1
    assert (counts.sum(axis=-1) == 2**PRECISION).all()
    probs = np.exp2(-steps.astype(float) / STEPS)
    probs /= probs.sum(axis=-1, keepdims=True)
    expected = 1 + (2**PRECISION - levels) * probs
    others = np.ones_like(steps, bool)  # the most probable takes what rounding leaves
    others[np.arange(rows), steps.argmin(axis=-1)] = False
    assert (np.abs(counts - expected)[others] <= 1.001 + expected[others] * levels / 2**31).all()
    assert (np.abs(counts - expected) <= levels + expected * 1e-3).all()


@pytest.mark.quick
@pytest.mark.parametrize("levels", [2, 3, 256, 4097])
def test_the_coder_uses_exactly_these_frequencies(levels):
    """Seen in its state, after one level: what range is left, and where it begins."""
    constriction = pytest.importorskip("constriction")
    del constriction
    rng = np.random.default_rng(levels)
    for spread in (1.0, 2e3, 1e5):
        counts = frequencies(random_steps(rng, 8, levels, spread))
        for row in counts:
            for level in {0, int(rng.integers(levels)), levels - 1}:
                encoder = Encoder()
                encoder.encode(np.array([level]), row[None])
                _, (lower, width) = encoder._coder.pos()
                share = (2**64 - 1) >> PRECISION
                left, below = share * int(row[level]), share * int(row[:level].sum())
                if left < 2**32:  # the coder has written a word
                    left, below = left << 32, (below << 32) % 2**64
                assert (lower, width) == (below, left)


@pytest.mark.quick
def test_a_stream_is_as_long_as_its_frequencies_say():
    rng = np.random.default_rng(0)
    counts = frequencies(random_steps(rng, 5000, 17, 3e3))
    levels = np.array([rng.choice(17, p=row / row.sum()) for row in counts], np.int32)
    encoder = Encoder()
    for part in np.split(np.arange(5000), 10):
        encoder.encode(levels[part], counts[part])
    bits = PRECISION * len(levels) - np.log2(counts[np.arange(len(levels)), levels]).sum()
    assert bits <= 8 * len(encoder.data()) <= bits + 64
    decoder = Decoder(encoder.data())
    decoded = [decoder.decode(counts[part]) for part in np.split(np.arange(5000), 10)]
    np.testing.assert_array_equal(np.concatenate(decoded), levels)
