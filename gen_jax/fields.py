"""The types of settings: a dataclass's fields against what it declares."""

import dataclasses
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Literal


def check_fields(kind: type, fields: Mapping[str, object], where: str) -> None:
    """ValueError unless every field is one of the dataclass `kind`, of the type it declares.

    Lists stand for tuples, objects for dataclasses, as in JSON; numbers are finite.
    """
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"{where}{name} is {value!r}; accepted: no such field")
        hint = hints[name]
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            check_fields(typing.cast(type, hint), value, f"{where}{name}.")
        elif not _matches(value, hint):
            raise ValueError(f"{where}{name} is {value!r}; accepted: {_describe(hint)}")


def _matches(value: object, hint: object) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, choice) for choice in arguments)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(_matches(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_matches, value, arguments))
    if hint in (None, type(None)):
        return value is None
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return (
            isinstance(value, int | float)
            and type(value) is not bool
            and abs(value) <= sys.float_info.max
        )
    if hint in (bool, str):
        return isinstance(value, hint)
    return not dataclasses.is_dataclass(hint)


def _describe(hint: object) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return _either(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return _either(map(_describe, arguments))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list of {_describe(arguments[0])}"
        return f"a list of {len(arguments)}, each {_describe(arguments[0])}"
    if dataclasses.is_dataclass(hint):
        return "an object"
    known = {int: "an integer", float: "a finite number", str: "a text", bool: "true or false"}
    return known.get(hint, "null")


def _either(choices: Iterable[str]) -> str:
    return " or ".join(choices)
