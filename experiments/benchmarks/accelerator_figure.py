"""What a figure of `experiments.benchmarks.accelerator` is, and the setting that all share."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from gen_jax.precision import Precision, matmul_precision

Call: TypeAlias = Callable[[], dict[str, Any]]


class Figure(NamedTuple):
    """One thing to measure."""

    about: dict[str, Any]
    """What it is: kind, model, batch, method."""
    prepare: Callable[[], Call]
    """Compiles, and gives what then measures."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all figures share."""

    small: bool
    precision: Precision
    repeats: int

    def in_precision(self) -> contextlib.AbstractContextManager[object]:
        """What is compiled inside has the precision."""
        return matmul_precision(self.precision)

    @property
    def batches(self) -> tuple[int, ...]:
        """Images drawn at once."""
        return (2,) if self.small else (1, 64, 1024, 8192)


def about(kind: str, name: str, model: Any, batch: int, method: str) -> dict[str, Any]:
    shape = list(model.image_shape)
    return {"kind": kind, "model": name, "image": shape, "batch": batch, "method": method}
