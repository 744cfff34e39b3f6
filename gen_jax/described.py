"""Models, likelihoods and objectives as JSON that says the same in every process.

A class or function is its name; where an object lies in memory is nothing of it.
"""

import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import flax.linen as nn
import jax
import numpy as np

from gen_jax import checks
from gen_jax.typing import Json

T = TypeVar("T")

_FLAX = ("parent", "name")  # fields of every Module
_PUBLIC = (jax.nn, jax.numpy, jax.lax)


def class_name(thing: object, known: Mapping[str, type]) -> str:
    """The short name of an object's class if it is a known one, else module and qualified name."""
    kind = type(thing)
    return kind.__name__ if known.get(kind.__name__) is kind else _name(kind)


def function(value: object) -> Json:
    """A function as `{"name": module and qualified name}`, with what is bound of a partial one."""
    if isinstance(value, functools.partial):
        bound: Json = {"args": plain(value.args), "keywords": plain(value.keywords)}
        return {**function(value.func), **{k: v for k, v in bound.items() if v}}
    if hasattr(value, "__qualname__"):
        return {"name": _name(value)}
    return {"name": class_name(value, {}), **fields(value)}


def fields(thing: object) -> Json:
    """The fields of a dataclass; of anything else what it says of itself, if it says anything."""
    if dataclasses.is_dataclass(thing):
        flax = _FLAX if isinstance(thing, nn.Module) else ()
        names = [field.name for field in dataclasses.fields(thing) if field.name not in flax]
        return {name: plain(getattr(thing, name)) for name in names}
    said = repr(thing)
    return {} if type(thing).__repr__ is object.__repr__ else {"repr": _without_address(said)}


def built(kind: type[T], fields: Mapping[str, Any]) -> T:
    """An object of a dataclass. ValueError for a field that it does not have, lacks or refuses."""
    known = {k: v for k, v in inspect.signature(kind).parameters.items() if k not in _FLAX}
    for name in fields:
        if name not in known:
            raise checks.missing(
                kind.__name__, f"field {name!r}", ", ".join(known) or "none of its own"
            )
    needed = [name for name, field in known.items() if field.default is field.empty]
    for name in needed:
        if name not in fields:
            raise checks.missing(kind.__name__, name, f"with {', '.join(needed)}, at least")
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


def plain(value: object) -> object:
    """A field as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(x) for x in value]
    if isinstance(value, Mapping):
        return {str(key): plain(x) for key, x in value.items()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return np.asarray(value).tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"name": class_name(value, {}), **fields(value)}
    if isinstance(value, functools.partial):
        return function(value)
    if hasattr(value, "__qualname__"):  # of a function or a class, such as an activation
        return _name(value)
    if type(value).__repr__ is object.__repr__:
        return class_name(value, {})
    return _without_address(repr(value))


def _name(named: Any) -> str:
    """Module and qualified name of a class or function, as another program would import it."""
    for module in _PUBLIC:  # which are defined elsewhere than where they are found
        if getattr(module, named.__qualname__, None) is named:
            return f"{module.__name__}.{named.__qualname__}"
    module = named.__module__
    if module == "__main__":
        main = sys.modules[module]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is not None:  # python -m package.module
            module = spec.name
        elif file is not None:  # python module.py
            module = Path(file).stem
    return f"{module}.{named.__qualname__}"


def _without_address(said: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", said)
