"""The file of compressed images: any damage is found, and a header is not believed."""

import dataclasses

import numpy as np
import pytest

from gen_jax import codec
from gen_jax.codec.container import Container, Fingerprints, Stream
from tests.cases import one_line_error


@pytest.mark.quick
def test_any_damage_is_found():
    """Bits turned, bytes lost, doubled and moved: each one line, before any model is asked."""
    rng = np.random.default_rng(0)
    data = Container(
        (2, 3, 1), 256, 300, 1000, 64,
        Fingerprints(b"m" * 16, b"machine!", b"programs", "0.10.2/0.10.2/0.5.0", "cpu"),
        rng.integers(0, 300, 1000).astype(np.int32),
        [Stream(rng.bytes(4 * int(rng.integers(9))), int(rng.integers(2**32))) for _ in range(16)],
    ).to_bytes()  # fmt: skip
    assert codec.parse(data).to_bytes() == data
    damaged = [data[:length] for length in range(len(data))]
    damaged += [turned(data, [bit]) for bit in range(8 * 120)]
    for _ in range(500):
        damaged.append(turned(data, rng.integers(0, 8 * len(data), rng.integers(1, 9))))
        at, length = rng.integers(0, len(data), 2)
        damaged.append(data[:at] + data[at : at + length] * 2 + data[at + length :])
        damaged.append(data[:at] + data[at + length + 1 :])
        damaged.append(data[:at] + rng.bytes(length + 1) + data[at + length + 1 :])
    damaged += [b"", data + b"\0", data * 2, data.replace(b"\n", b"\r\n"), rng.bytes(500)]
    for some in damaged:
        if some != data:
            with one_line_error("^data "):
                codec.parse(some)


def turned(data, bits):
    """`data` with some bits turned."""
    array = np.frombuffer(data, np.uint8).copy()
    for bit in bits:
        array[bit // 8] ^= 1 << (bit % 8)
    return array.tobytes()


@pytest.mark.quick
def test_a_header_that_promises_much_asks_for_little():
    """Checksums that are right, of what cannot be: nothing is made of a number alone."""
    prints = Fingerprints(b"m" * 16, b"machine!", b"programs", "0", "cpu")
    for change in (
        {"count": 2**60},
        {"count": 2**60, "num_classes": 10},
        {"batch": 2**31},
        {"batch": 0, "count": 1},
        {"num_classes": 3, "labels": np.array([7], np.int32), "count": 1},
    ):
        held = Container((28, 28, 1), 256, None, 0, 1, prints, None, [])
        with one_line_error("^data is damaged"):
            codec.parse(dataclasses.replace(held, **change).to_bytes())
