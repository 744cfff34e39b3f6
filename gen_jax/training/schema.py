"""The form of run.json: one check for what is written and what is read."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NoReturn

from gen_jax import checks
from gen_jax.fields import check_fields
from gen_jax.likelihoods import LIKELIHOODS
from gen_jax.models import MODELS
from gen_jax.training.objective import LOG_LIKELIHOOD, TARGETS, target_to_dict
from gen_jax.training.settings import TrainConfig
from gen_jax.typing import Json

FORMAT = "gen_jax run 1"
_RECORDS = "what a run of gen_jax writes"


@dataclasses.dataclass(frozen=True)
class Start:
    """The weights that a run starts from, as run.json says it."""

    run: str
    """Its folder, or the name of a shipped model, as it was given."""
    step: int
    """The step whose weights they are."""
    sha256: str
    """Hash of the weights."""


@dataclasses.dataclass(frozen=True)
class Earlier:
    """How a run was trained before it went on by other settings, as run.json says it."""

    until: int
    """The step from which it went on."""
    training: TrainConfig
    """The settings of training until there."""


def check_run(record: object, where: str) -> None:
    """ValueError unless `record` is what run.json of a run says; it names the first that is not.

    Runs of old have no format, objective, processes, init_from or earlier.
    """
    if not isinstance(record, dict):
        raise ValueError(f"{where} is no JSON object; accepted: {_RECORDS}")
    if record.get("format", FORMAT) != FORMAT:
        _refuse(f"{where}: format", record["format"], repr(FORMAT))
    for name in ("model", "data", "training", "versions"):
        if name not in record:
            raise checks.missing(where, name, _RECORDS)
        _object(f"{where}: {name}", record[name])
    model, data, training = record["model"], record["data"], record["training"]
    if (kind := _kind(f"{where}: model.model", model.get("model"), MODELS)) is not None:
        likelihood = model.get("likelihood")
        _named(f"{where}: model.likelihood", likelihood, LIKELIHOODS)
        rest = {k: v for k, v in model.items() if k not in ("model", "likelihood")}
        check_fields(kind, rest, f"{where}: model.")
    _text(f"{where}: data.fingerprint", data.get("fingerprint"))
    if "config" in data:
        _object(f"{where}: data.config", data["config"])
        kind = _data_config()
        names = {field.name for field in dataclasses.fields(kind)}
        known = {k: v for k, v in data["config"].items() if k in names}
        check_fields(kind, known, f"{where}: data.config.")
    _check_has(("steps", "optimizer"), training, where, "training")
    check_fields(TrainConfig, training, f"{where}: training.")
    names = data.get("class_names")
    if names is not None and not (
        isinstance(names, list) and all(isinstance(n, str) for n in names)
    ):
        _refuse(f"{where}: data.class_names", names, "a list of texts, or null")
    if "objective" in record:
        _named(f"{where}: objective", record["objective"], TARGETS)
    processes = record.get("processes", 1)
    if type(processes) is not int or processes < 1:
        _refuse(f"{where}: processes", processes, "1 or more")
    if record.get("init_from") is not None:
        _object(f"{where}: init_from", record["init_from"])
        check_fields(Start, record["init_from"], f"{where}: init_from.")
        _check_has(("run", "step", "sha256"), record["init_from"], where, "init_from")
    earlier = record.get("earlier", [])
    if not isinstance(earlier, list):
        _refuse(f"{where}: earlier", earlier, "a list")
    for stage in earlier:
        if not isinstance(stage, dict):
            _refuse(f"{where}: earlier", earlier, "objects")
        check_fields(Earlier, stage, f"{where}: earlier.")
        _check_has(("until", "training"), stage, where, "earlier")
        _check_has(("steps", "optimizer"), stage["training"], where, "earlier.training")


def _check_has(names: tuple[str, ...], fields: Json, where: str, prefix: str) -> None:
    for name in names:
        if name not in fields:
            raise checks.missing(where, f"{prefix}.{name}", _RECORDS)


def other_class(model: Json) -> str | None:
    """The class of another package that the model of a run, or its likelihood, is of; or None."""
    kinds = {"model": (model["model"], MODELS)}
    if model["model"] in MODELS:
        kinds["likelihood"] = (model["likelihood"]["name"], LIKELIHOODS)
    for kind, (name, known) in kinds.items():
        if name not in known and "." in name:
            return f"{kind} {name}"
    return None


def with_defaults(record: Mapping[str, Any]) -> Json:
    """`record` with the fields that run.json of an older version lacks, at their defaults."""
    filled: Json = {
        "objective": target_to_dict(LOG_LIKELIHOOD),
        "processes": 1,
        "init_from": None,
        "earlier": [],
        **{name: value for name, value in record.items() if name != "format"},
    }
    settings = _defaults(TrainConfig)
    filled["training"] = _merge(settings, filled["training"])
    filled["earlier"] = [
        {**stage, "training": _merge(settings, stage["training"])} for stage in filled["earlier"]
    ]
    model, objective, data = filled["model"], filled["objective"], filled["data"]
    if model["model"] in MODELS:
        likelihood = model["likelihood"]
        likelihood = _merge(_defaults(LIKELIHOODS.get(likelihood["name"])), likelihood)
        filled["model"] = _merge(_defaults(MODELS[model["model"]]), model)
        filled["model"]["likelihood"] = likelihood
    filled["objective"] = _merge(_defaults(TARGETS.get(objective["name"])), objective)
    if "config" in data:
        filled["data"] = {**data, "config": _merge(_defaults(_data_config()), data["config"])}
    return filled


def _data_config() -> type:
    from gen_jax.data import DataConfig  # grain and pillow: not before they are needed

    return DataConfig


def _defaults(kind: type | None) -> Json:
    """The defaults of a dataclass's fields, as JSON; parent and name are Flax's own."""
    values = {}
    for field in dataclasses.fields(kind) if kind is not None else ():
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if value is not dataclasses.MISSING and field.name not in ("parent", "name"):
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                value = dataclasses.asdict(value)
            values[field.name] = list(value) if isinstance(value, tuple) else value
    return values


def _merge(defaults: Mapping[str, object], values: Mapping[str, object]) -> Json:
    merged = {**defaults, **values}
    for name, value in values.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            merged[name] = _merge(default, value)
    return merged


def _object(where: str, value: object) -> Json:
    return value if isinstance(value, dict) else _refuse(where, value, "an object")


def _text(where: str, value: object) -> str:
    return value if isinstance(value, str) else _refuse(where, value, "a text")


def _kind(where: str, name: object, table: Mapping[str, type]) -> type | None:
    """The class of that name; None for one that the library does not know."""
    return table.get(_text(where, name))


def _named(where: str, value: object, table: Mapping[str, type]) -> None:
    """ValueError unless it is {"name": …, …fields}."""
    fields = dict(_object(where, value))
    kind = _kind(f"{where}.name", fields.pop("name", None), table)
    if kind is not None:
        check_fields(kind, fields, f"{where}.")


def _refuse(where: str, value: object, accepted: str) -> NoReturn:
    raise ValueError(f"{where} is {value!r}; accepted: {accepted}")
