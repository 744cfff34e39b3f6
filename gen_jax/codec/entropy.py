"""From rounded log-probabilities to a stream of bits: integer frequencies, and a range coder.

Frequencies are whole numbers that add up to 2^24, each at least 1, made by integer arithmetic
alone: the same on every machine. The coder is constriction's, a range coder with a state of 64
bits; what it loses is below 1e-7 of the bits, and what rounding loses is measured in
docs/codec.md.
"""

import decimal
import functools
import importlib
from types import ModuleType

import numpy as np

from gen_jax.typing import Float, Int, Integer, UInt

PRECISION = 24
"""Frequencies add up to 2^24."""
STEPS = 2048
"""Steps of a rounded log-probability in a bit; the least is 2^-32 of the greatest."""

_WEIGHT_BITS = 31
_SHIFT = 38


def frequencies(steps: UInt[np.ndarray, "n levels"]) -> Int[np.ndarray, "n levels"]:
    """How often each level is: whole numbers of at least 1, which add up to 2^24 in each row.

    `steps`, uint16, is how far a level's log-probability is below the greatest of its row, in
    1/2048 bits: one level at least has 0.
    """
    weights = _weights()[steps]
    spare = 2**PRECISION - steps.shape[-1]
    # One division a row. A weight is at most 2^31, a sum of them at least that: no product
    # reaches 2^63, and the quotient is never too large.
    scale = (spare << _SHIFT) // weights.sum(axis=-1, keepdims=True)
    counts = (weights * scale) >> _SHIFT
    counts += 1
    best = steps.argmin(axis=-1)
    counts[np.arange(len(counts)), best] += 2**PRECISION - counts.sum(axis=-1)
    return counts


@functools.cache
def _weights() -> Int[np.ndarray, " 65536"]:
    """2^(31 − steps / 2048) to the nearest whole number, for all steps.

    Decimal arithmetic is the same on every machine; a power function of the hardware is not.
    """
    with decimal.localcontext(decimal.Context(prec=40)):
        step = decimal.Decimal(2) ** (decimal.Decimal(-1) / STEPS)
        bit = [int(2**52 * step**k) for k in range(STEPS)]
    within, bits = np.array(bit, np.int64), np.arange(2**16 // STEPS)
    shift = 52 - _WEIGHT_BITS + bits[:, None]
    # Half of the last place is added, and the shift cuts: to the nearest.
    return ((within + (1 << (shift - 1))) >> shift).reshape(-1)


class StreamError(ValueError):
    """A stream that no encoder gives with these frequencies."""


class Encoder:
    """Appends levels to a stream."""

    def __init__(self) -> None:
        self._coder = constriction().stream.queue.RangeEncoder()
        self._family = _family()

    def encode(
        self, levels: Integer[np.ndarray, " n"], counts: Int[np.ndarray, "n levels"]
    ) -> None:
        """Codes one level for each row of frequencies."""
        self._coder.encode(levels.astype(np.int32), self._family, _exact(counts))

    def data(self) -> bytes:
        """The stream so far: little-endian words of 32 bits."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class Decoder:
    """Reads levels from a stream; from one that is not what was encoded, any levels."""

    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(data, "<u4").astype(np.uint32)
        self._coder = constriction().stream.queue.RangeDecoder(words)
        self._family = _family()

    def decode(self, counts: Int[np.ndarray, "n levels"]) -> Int[np.ndarray, " n"]:
        """One level for each row of frequencies. StreamError for what no encoder gives."""
        try:
            return self._coder.decode(self._family, _exact(counts))
        except AssertionError as error:
            raise StreamError("no encoder gives such a stream") from error


def constriction() -> ModuleType:
    """The entropy coders. ValueError if they are not installed."""
    try:
        return importlib.import_module("constriction")
    except ImportError as error:
        raise ValueError(
            "the package constriction, which the codec needs, is not installed; "
            "accepted: with it, by pip install 'gen_jax[codec]'"
        ) from error


def _family() -> object:
    return constriction().stream.model.Categorical(perfect=False)


def _exact(counts: Int[np.ndarray, "n levels"]) -> Float[np.ndarray, "n levels"]:
    """What constriction makes exactly these frequencies of.

    It gives every level one of the 2^24, and shares out the rest in proportion to the numbers
    given. Those that add up to the rest are multiplied by 1, and every sum of them is a whole
    number that float32 holds.
    """
    return (counts - 1).astype(np.float32)
