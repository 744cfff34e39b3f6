"""The card of a shipped model: what it is, how well it does, and how it was made."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from gen_jax import checks
from gen_jax.fields import check_fields
from gen_jax.likelihoods import LIKELIHOODS
from gen_jax.models import MODELS

FORMAT = "gen_jax card 1"
_CARDS = "the card of a model, as gen_jax publish writes it"

Precision: TypeAlias = Literal["float16", "float32"]


@dataclasses.dataclass(frozen=True)
class Rounding:
    """How the weights are stored."""

    dtype: Precision
    """Type in the file; loaded, they are float32."""
    parameters: int
    """Number of parameters."""
    sha256: str
    """Hash of the file, which tells a damaged one."""
    moved_nats: float
    """By how much rounding changed the test score, in nats an image."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """What chose this step among those of the run."""

    split: str
    """The split that was evaluated during training, such as validation."""
    images: int
    """Number of its images."""
    bits_per_dim: float
    """The loss there, as training evaluated it."""


@dataclasses.dataclass(frozen=True)
class Score:
    """How well the stored weights do on a whole split."""

    split: str
    """The split that was scored, such as test."""
    images: int
    """Number of its images, each counted once."""
    measure: str
    """What bits_per_dim is the mean of, such as -log p(x)."""
    nats: float
    """Mean of the objective, which is minus the measure, in nats an image."""
    nats_standard_error: float
    """Standard error of that mean."""
    bits_per_dim: float
    """The measure in bits/dim: the lower the better."""
    bits_per_dim_standard_error: float
    """Standard error of that mean."""
    iwae_samples: int | None
    """Codes of each image in the IWAE bound, k; None where it was not computed."""
    iwae_nats: float | None
    """Mean of the IWAE bound of log p(x), in nats an image."""
    iwae_nats_standard_error: float | None
    """Standard error of that mean."""
    accuracy: float | None
    """Fraction of the classes right, by Bayes' rule; None for a model without classes."""


@dataclasses.dataclass(frozen=True)
class SelfCheck:
    """What `fixed_scores` gave of `fixed_images`, to find out whether it still does."""

    images: str
    """Which images they are, in words."""
    measure: str
    """What their scores are, in words."""
    nats: tuple[float, ...]
    """The scores, one an image."""


@dataclasses.dataclass(frozen=True)
class Card:
    """What NAME.json says of a shipped model."""

    format: Literal["gen_jax card 1"]
    """Version of the file's form."""
    run: dict[str, Any]
    """What run.json says: the model, the data, the settings, the versions it was trained with."""
    step: int
    """The step whose weights are shipped: the best by validation."""
    steps: int
    """Number of steps of the whole training."""
    epochs: float
    """How many times the whole training saw each image."""
    command: str
    """The command that trains it; one after another, where it went on by other settings."""
    licence: str
    """Source and licence of the data."""
    selection: Selection
    """What chose the step."""
    test: Score
    """How well it does on the test split."""
    weights: Rounding
    """How the weights are stored."""
    check: SelfCheck
    """What tells whether it still gives the same."""
    versions: dict[str, Any]
    """Versions of the libraries that it was scored with."""


def to_json(card: Card) -> str:
    """The text of NAME.json."""
    return json.dumps(dataclasses.asdict(card), indent=1, allow_nan=False) + "\n"


def read(path: pathlib.Path) -> Card:
    """The card in a file. ValueError, in one line, for one that is damaged or edited amiss."""
    where = os.fspath(path)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise checks.unreadable(where, error) from error
    if not isinstance(fields, dict):
        raise ValueError(f"{where} is no JSON object; accepted: {_CARDS}")
    _check_complete(Card, fields, where)
    check_fields(Card, fields, f"{where}: ")
    _check_model(fields["run"].get("model"), f"{where}: run.model")
    fields["check"]["nats"] = tuple(fields["check"]["nats"])
    for name, kind in _PARTS.items():
        fields[name] = kind(**fields[name])
    return Card(**fields)


def _check_model(model: Any, where: str) -> None:
    """The types of a model's fields, and of its likelihood's; `models.from_dict` asks the rest."""
    if not isinstance(model, Mapping):
        raise ValueError(f"{where} is {model!r}; accepted: a model")
    likelihood = model.get("likelihood")
    if not isinstance(likelihood, Mapping):
        raise ValueError(f"{where}.likelihood is {likelihood!r}; accepted: a likelihood")
    for part, key, table, prefix in (
        (model, "model", MODELS, ""),
        (likelihood, "name", LIKELIHOODS, "likelihood."),
    ):
        kind = table.get(str(part.get(key)))
        rest = {name: value for name, value in part.items() if name not in (key, "likelihood")}
        if kind is not None:
            check_fields(kind, rest, f"{where}.{prefix}")


_PARTS: Mapping[str, type] = {
    "selection": Selection,
    "test": Score,
    "weights": Rounding,
    "check": SelfCheck,
}


def _check_complete(kind: type, fields: Any, where: str, prefix: str = "") -> None:
    """ValueError unless every field is there, and objects are objects."""
    for field in dataclasses.fields(kind):
        name = prefix + field.name
        if field.name not in fields:
            raise checks.missing(where, name, _CARDS)
        value = fields[field.name]
        if field.name in _PARTS or field.type == dict[str, Any]:
            if not isinstance(value, dict):
                raise ValueError(f"{where}: {name} is {value!r}; accepted: an object")
            if field.name in _PARTS:
                _check_complete(_PARTS[field.name], value, where, f"{name}.")
