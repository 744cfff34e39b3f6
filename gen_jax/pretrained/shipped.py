"""Names, and what stands behind them."""

import difflib
import os
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from gen_jax import checks, models
from gen_jax.models.shared.protocol import Model, takes_labels
from gen_jax.pretrained import cards, weights
from gen_jax.typing import Key, Params, Variables

FOLDER = pathlib.Path(__file__).parent
"""Where the shipped models are."""


def names(folder: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """The names of the shipped models, or of those that `gen_jax publish` put into `folder`."""
    return tuple(sorted(path.stem for path in path_of("*", folder).parent.glob("[!.]*.json")))


def is_shipped(name: object) -> bool:
    """Whether it names a shipped model; a folder that exists wins."""
    return (
        isinstance(name, str | os.PathLike)
        and not os.path.isdir(name)
        and os.fspath(name) in names()
    )


def suggestion(name: str) -> str:
    """The names of the shipped models in one line, and the one that may be meant, for a message."""
    close = difflib.get_close_matches(name, names(), 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{', '.join(names()) or 'none'}{hint}"


def path_of(name: str, folder: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """The path of a model's card."""
    return (FOLDER if folder is None else pathlib.Path(folder)) / f"{name}.json"


def card(name: str, folder: str | os.PathLike[str] | None = None) -> cards.Card:
    """The card of a shipped model. ValueError for an unknown name or a damaged card."""
    if not names(folder):
        raise ValueError(
            f"{path_of(name, folder).parent} holds no model; accepted: what gen_jax publish wrote"
        )
    checks.choice("name", name, names(folder))
    return cards.read(path_of(name, folder))


def load(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    step: int | str = "best",
    model: Model | None = None,
) -> tuple[Model, Variables]:
    """`(model, variables)` of a shipped model, or of one in `folder`: float32, on the first device.

    `step` can only be "best", or its number; a `model` that is given must equal the shipped one.
    ValueError for an unknown name, a damaged file, another step or another model.
    """
    said = card(name, folder)
    if step not in ("best", said.step) or isinstance(step, bool):
        raise ValueError(f"step is {step!r}; accepted: best, which is {said.step}: {name} has one")
    path = path_of(name, folder)
    try:
        own = models.from_dict(said.run["model"])
        expected = jax.eval_shape(_initialise(own), jax.random.key(0))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: run.model: {' '.join(str(error).split())}") from error
    if model is not None and model != own:
        raise ValueError(
            f"{name} is another model: {_difference(own, model)}; accepted: an equal model, or none"
        )
    variables = {"params": _read(path.with_suffix(".safetensors"), said.weights.sha256)}
    try:
        checks.same_shapes(variables, {"params": expected["params"]}, "the model of its card")
    except ValueError as error:
        raise ValueError(f"{path} is not of its weights: {error}") from error
    return own, jax.device_put(variables, jax.local_devices()[0])


def _read(path: pathlib.Path, sha256: str) -> Params:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise checks.unreadable(path, error) from error
    if weights.digest(content) != sha256:
        raise ValueError(
            f"{path} is damaged, or not of its card; accepted: the file published with the card"
        )
    try:
        return weights.from_bytes(content)
    except ValueError as error:
        raise checks.unreadable(path, error) from error


def _initialise(model: Model) -> Callable[[Key], Variables]:
    images = np.zeros((1, *model.image_shape), np.uint8)
    labels = (np.zeros(1, np.int32),) if takes_labels(model) else ()
    return lambda key: model.init(key, images, *labels)


def _difference(own: Model, asked: Model) -> str:
    """The first field in which two models differ."""
    here, there = models.to_dict(asked), models.to_dict(own)
    for key in [*there, *here]:
        if here.get(key) != there.get(key):
            return f"model.{key} is {there.get(key)!r} there, {here.get(key)!r} here"
    return f"{type(own).__name__} there, {type(asked).__name__} here"
