"""What is accepted, said in one place and one wording: "X is V; accepted: …".

ValueError where a value is wrong, TypeError where its type is. What a tracer holds cannot be looked
at: such levels and labels give NaN instead (`in_range`, `nan_unless`).
"""

import contextlib
import difflib
import math
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gen_jax.typing import Array, ArrayLike, Bool, Integer, Known, Labels, PyTree, Variables

Integers: TypeAlias = Integer[Array | np.ndarray, "..."]


class NonFiniteError(RuntimeError):
    """Something that must be finite is not: parameters, a loss, a gradient, a state to be saved."""


def whole(
    name: str, value: object, least: int, most: int | None = None, *, odd: bool = False
) -> int:
    """`value` as an int, of Python or NumPy; no bool, and no float."""
    bounds = f"{'odd ' if odd else ''}whole numbers "
    bounds += f"of at least {least}" if most is None else f"from {least} to {most}"
    value = _concrete(name, value, bounds)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {_shown(value)}; accepted: {bounds}")
    if value < least or (most is not None and value > most) or (odd and value % 2 == 0):
        raise ValueError(f"{name} is {value}; accepted: {bounds}")
    return int(value)


def real(
    name: str, value: object, low: int, high: float | int = math.inf, *, above: bool = False
) -> float:
    """`value` as a float in [low, high), or with `above` in (low, high): finite, so."""
    bounds = f"numbers in {'(' if above else '['}{low}, {high})"
    value = _concrete(name, value, bounds)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {_shown(value)}; accepted: {bounds}")
    if not (low < value if above else low <= value) or not value < high:
        raise ValueError(f"{name} is {value}; accepted: {bounds}")
    return float(value)


def flag(name: str, value: object) -> bool:
    """`value` as a bool, of Python or NumPy; no number."""
    if not isinstance(value, bool | np.bool):
        raise TypeError(f"{name} is {_shown(value)}; accepted: True, False")
    return bool(value)


def choice(name: str, value: object, choices: object, *, also: str = "") -> str:
    """`value`, if it is one of the choices of a Literal, or of a collection of names.

    `also` says what else is accepted, elsewhere.
    """
    names = tuple(choices) if isinstance(choices, Collection) else get_args(choices)
    if not isinstance(value, str) or value not in names:
        close = difflib.get_close_matches(value, names, 1) if isinstance(value, str) else []
        hint = f" (did you mean {close[0]}?)" if close else ""
        accepted = ", ".join([*names, also] if also else names)
        # Long names too: it may be one of a module and a class.
        shown = repr(value) if isinstance(value, str) and len(value) < 200 else _shown(value)
        raise ValueError(f"{name} is {shown}{hint}; accepted: {accepted}")
    return value


def wholes(name: str, value: object, least: int, length: int | None = None) -> tuple[int, ...]:
    """A tuple of ints, from any sequence of them; of `length`, or of 1 or more."""
    count = "one or more" if length is None else str(length)
    bounds = f"{count} whole numbers of at least {least}"
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"{name} is {_shown(value)}; accepted: {bounds}")
    items = [x.item() if isinstance(x, np.generic) else x for x in value]
    shown = f"({', '.join(_shown(x) for x in items)}{',' * (len(items) == 1)})"
    if not all(isinstance(x, int) and not isinstance(x, bool) for x in items):
        raise TypeError(f"{name} is {shown}; accepted: {bounds}")
    if (length is not None and len(items) != length) or not items or min(items) < least:
        raise ValueError(f"{name} is {shown}; accepted: {bounds}")
    return tuple(int(x) for x in items)


def expanded(name: str, path: str | os.PathLike[str]) -> pathlib.Path:
    """A path with its ~ expanded. ValueError for a user that is not there."""
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{name} is {os.fspath(path)!r}, of a user without a home folder; accepted: other paths"
        ) from None


def unreadable(what: object, error: Exception) -> ValueError:
    """What to raise where reading a file or a folder ended in `error`, its reason in one line."""
    if isinstance(error, OSError) and error.strerror:
        return ValueError(f"{what} cannot be read: {error.strerror}; accepted: what can be")
    # Of a damaged file it is of any type: RuntimeError, BadZipFile, …
    said = (str(error).splitlines() or [""])[0]
    kind = "" if isinstance(error, ValueError) and said else type(error).__name__
    reason = ": ".join(filter(None, (kind, said)))
    return ValueError(f"{what} cannot be read: {reason}; accepted: what is whole")


def missing(what: str, name: str, accepted: str) -> ValueError:
    """What to raise for what lacks a field that it must have."""
    return ValueError(f"{what} has no {name}; accepted: {accepted}")


def plain(value: object) -> object:
    """A field without NumPy and without lists, so that it hashes: ints, floats, tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(plain(x) for x in value)
    return plain(value.tolist()) if isinstance(value, np.ndarray) else value


# Arrays.


def array(name: str, value: object) -> Array | np.ndarray:
    """`value` if it is an array; what a list or a number says as a NumPy array."""
    if isinstance(value, jax.Array | np.ndarray):
        return value
    try:
        result = np.asarray(value)
    except ValueError:  # lists of unequal lengths
        raise ValueError(f"{name} is {_shown(value)}; accepted: an array") from None
    except jax.errors.TracerArrayConversionError:  # a list of tracers
        result = jnp.asarray(value)
    if result.dtype.kind not in "biuf":
        raise TypeError(f"{name} is {_shown(value)}; accepted: an array of numbers")
    return result


def levels(name: str, value: object, count: int) -> Integers:
    """An array of integers in 0 … count − 1: levels, or classes."""
    value = array(name, value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"{name} has dtype {value.dtype}; accepted: integers 0 … {count - 1}")
    if not isinstance(value, Tracer) and value.size:
        values = np.asarray(value)  # NumPy, so that a jit around this does not trace it
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= count:
            raise ValueError(f"{name} goes from {low} to {high}; accepted: 0 … {count - 1}")
    return value


def labels(value: object, num_classes: int | None, batch: int) -> Labels | None:
    """The labels as integers `[B]`, of which one stands for all; None for a model without classes.

    ValueError unless they are given exactly when the model has classes.
    """
    if num_classes is None:
        if value is not None:
            raise ValueError(
                f"labels is {_shown(value)}; accepted, by a model without classes: None"
            )
        return None
    if value is None:
        raise ValueError(
            f"labels is None; accepted, by a model with {num_classes} classes: one an image"
        )
    value = array("labels", value)
    if value.shape not in ((batch,), ()):
        raise ValueError(
            f"labels has shape {value.shape}; accepted: ({batch},), one an image, or one for all"
        )
    value = levels("labels", value, num_classes)
    if value.shape == ():
        module = np if isinstance(value, np.ndarray) else jnp
        value = module.broadcast_to(value, (batch,))
    # Which integers they are must not decide what is compiled.
    return value if isinstance(value, Tracer) else value.astype(np.int32)


def mask(known: object, shape: tuple[int, ...]) -> Known:
    """What is known of images, as bool of their `shape`: see `gen_jax.sampling.complete`."""
    found = array("known", known)
    numbers = jnp if isinstance(found, Tracer) else np
    if found.dtype != bool:
        if not jnp.issubdtype(found.dtype, jnp.integer):
            raise ValueError(f"known has dtype {found.dtype}; accepted: bool, or 0 and 1")
        found = levels("known", found, 2) != 0
    batch, height, width, _ = shape
    readings = [found]
    if found.shape in ((height, width), (batch, height, width)):
        readings.append(found[..., None])
    masks = []
    for reading in readings:
        with contextlib.suppress(ValueError):
            masks.append(numbers.broadcast_to(reading, shape))
    if not masks:
        raise ValueError(
            f"known has shape {found.shape}; accepted: [H, W], [B, H, W], or what broadcasts to "
            f"{shape}"
        )
    if len(masks) == 2 and (isinstance(found, Tracer) or (masks[0] != masks[1]).any()):
        raise ValueError(
            f"known has shape {found.shape}, which is one of pixels and broadcasts to {shape} "
            "too; accepted: with an axis of channels"
        )
    return masks[0]


def in_range(values: Array, count: int) -> Bool[Array, "..."] | None:
    """Which integers are in 0 … count − 1; None where their type has no others."""
    limits, found = jnp.iinfo(values.dtype), None
    if limits.min < 0:
        found = values >= 0
    if limits.max >= count:
        below = values < count
        found = below if found is None else found & below
    return found


def nan_unless(valid: Bool[Array, "..."] | None, x: Array) -> Array:
    """`x` times 1 where `valid`, and times NaN elsewhere: so is its gradient."""
    return x if valid is None else x * jnp.where(valid, 1, jnp.nan).astype(x.dtype)


# Parameters.


@jax.jit
def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether no floating-point leaf of `tree` holds an infinity or NaN."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in leaves], bool))


def finite(variables: PyTree) -> None:
    """NonFiniteError that names the first parameter with an infinity or NaN; none if traced."""
    for path, x in jax.tree_util.tree_leaves_with_path(variables):
        # On the host: of a program for each set of shapes, compiling took half a second.
        count = 0 if isinstance(x, Tracer) else _not_finite(x)
        if count:
            raise NonFiniteError(
                f"variables{jax.tree_util.keystr(path)} is not finite: infinite or NaN are "
                f"{count} of {np.size(x)} values"
            )


def _not_finite(x: ArrayLike) -> int:
    """How many infinities and NaNs; those on this host, of an array on several."""
    parts = [x]
    if isinstance(x, jax.Array):
        shards = x.addressable_shards
        parts = [shard.data for shard in shards[: 1 if x.is_fully_replicated else None]]
    parts = [np.asarray(part) for part in parts]
    return sum(
        int(np.sum(~np.isfinite(part)))
        for part in parts
        if jnp.issubdtype(part.dtype, jnp.inexact) and not np.isfinite(part).all()
    )


def same_shapes(variables: object, expected: Variables, model: str) -> None:
    """ValueError that names the first parameter in which `variables` is not as `expected`."""
    accepted = "accepted: what model.init gives, {'params': …}"
    if not isinstance(variables, Mapping):
        raise TypeError(f"variables is {_shown(variables)}; {accepted}")
    for collection, tree in expected.items():
        if collection not in variables:
            keys = ", ".join(map(repr, variables)) or "none"
            raise ValueError(f"variables has no {collection!r} (its keys: {keys}); {accepted}")
        found, wanted = _shapes(variables[collection]), _shapes(tree)
        for path in [*wanted, *found]:
            name = f"variables[{collection!r}]{path}"
            if path not in found:
                raise ValueError(
                    f"{name} is missing; accepted: an array of shape {wanted[path]}, as {model} "
                    "has it"
                )
            if path not in wanted:
                close = difflib.get_close_matches(path, wanted, 1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise ValueError(
                    f"{name} is no parameter of {model}{hint}; accepted: the {len(wanted)} that it "
                    "has"
                )
            if found[path] != wanted[path]:
                raise ValueError(f"{name} has shape {found[path]}; accepted: {wanted[path]}")


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}


def _concrete(name: str, value: object, bounds: str) -> object:
    """A scalar array as a scalar; TypeError for a tracer."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} is a traced value, of a jit or another transformation; accepted: {bounds}"
        )
    if isinstance(value, jax.Array | np.ndarray) and value.shape == ():
        return np.asarray(value).item()
    return value.item() if isinstance(value, np.generic) else value


def _shown(value: object) -> str:
    """A value in one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:70]}… ({type(value).__name__})"
