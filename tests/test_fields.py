"""Settings are of the types that their dataclass declares, as JSON has them."""

import dataclasses
import math
from typing import Literal

import pytest

from gen_jax.fields import check_fields

pytestmark = pytest.mark.quick


@dataclasses.dataclass
class Inner:
    rate: float = 0.5


@dataclasses.dataclass
class Outer:
    inner: Inner
    count: int
    size: tuple[int, int]
    hidden: tuple[int, ...]
    kind: Literal["dense", 3]
    limit: float | None
    name: str
    flag: bool


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("inner", [{"rate": 1}, {}]),
        ("count", [-1, 0, 2**70]),
        ("size", [(1, 2), [1, 2]]),
        ("hidden", [[], [3], (1, 2, 3)]),
        ("kind", ["dense", 3]),
        ("limit", [None, 2, 2.5]),
        ("name", ["", "a"]),
        ("flag", [True, False]),
    ],
)
def test_what_is_declared_is_let_by(name, values):
    for value in values:
        check_fields(Outer, {name: value}, "run.")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("inner", {"rate": "1"}, "run.inner.rate is '1'; accepted: a finite number"),
        ("inner", {"speed": 1}, "run.inner.speed is 1; accepted: no such field"),
        ("inner", 1, "run.inner is 1; accepted: an object"),
        ("count", True, "run.count is True; accepted: an integer"),
        ("count", 1.0, "run.count is 1.0; accepted: an integer"),
        ("size", [1], "run.size is [1]; accepted: a list of 2, each an integer"),
        ("size", [1, None], "run.size is [1, None]; accepted: a list of 2, each an integer"),
        ("hidden", [1, "2"], "run.hidden is [1, '2']; accepted: a list of an integer"),
        ("hidden", 3, "run.hidden is 3; accepted: a list of an integer"),
        ("kind", 3.0, "run.kind is 3.0; accepted: 'dense' or 3"),
        ("limit", math.inf, "run.limit is inf; accepted: a finite number or null"),
        ("limit", math.nan, "run.limit is nan; accepted: a finite number or null"),
        ("limit", 10**400, f"run.limit is {10**400}; accepted: a finite number or null"),
        ("limit", False, "run.limit is False; accepted: a finite number or null"),
        ("name", None, "run.name is None; accepted: a text"),
        ("flag", 1, "run.flag is 1; accepted: true or false"),
    ],
    ids=range(16),
)
def test_what_is_not_is_named_with_what_is(name, value, message):
    with pytest.raises(ValueError, match="accepted") as error:
        check_fields(Outer, {name: value}, "run.")
    assert str(error.value) == message
