"""What every kind of data set says of itself, and what their readers share."""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Literal

import numpy as np

from gen_jax import checks

Progress = Callable[[int, int], None]
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """The labels of each split that is stored, and how to make the rest."""

    labels: dict[str, np.ndarray | None]
    white: int = 255
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    held_out: dict[str, int] = dataclasses.field(default_factory=dict)
    order: Literal["random", "fixed", "stored"] = "random"
    notes: tuple[str, ...] = ()
    omissions: tuple[str, ...] = ()
    """What is there and was left out, one line each."""


def natural(name: str) -> tuple:
    """A key that sorts numbers in names as numbers: 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def counted(things: Sized, noun: str) -> str:
    """'1 file', '2 files'."""
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def some(names: Iterable[object], most: int = 3, show: Callable[[object], str] = repr) -> str:
    """The first few names, and whether there are more."""
    names = list(names)
    return ", ".join(map(show, names[:most])) + (", ..." if len(names) > most else "")


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever a reader raises on a damaged file (RuntimeError, BadZipFile, …) as a ValueError."""
    try:
        yield
    except Exception as error:
        raise checks.unreadable(what, error) from error
