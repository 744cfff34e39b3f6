"""Weights and a card, which load by a name, from a finished run: `gen_jax publish RUN NAME`."""

import dataclasses
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from flax.traverse_util import flatten_dict

from gen_jax import data, models, pretrained, training
from gen_jax.files import replacing, write_atomically
from gen_jax.pretrained import cards, weights
from gen_jax.scripts import cli, evaluate, results, runs, train
from gen_jax.scripts.presets import PRESETS, Experiment
from gen_jax.training.schema import FORMAT, with_defaults
from gen_jax.typing import Json

# Half precision is good enough if it moves the test score by less, in nats an image.
TOLERANCE = 0.02

_MNIST = (
    "MNIST (LeCun, Cortes and Burges 1998), derived from NIST's Special Databases 1 and 3; "
    "CC BY-SA 3.0"
)
LICENCES: Mapping[str, str] = {
    "digits": (
        "Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), UCI Machine "
        "Learning Repository; CC BY 4.0"
    ),
    "mnist": _MNIST,
    "binarized_mnist": f"binarized by Salakhutdinov and Murray 2008 from {_MNIST}",
    "cifar10": "CIFAR-10 (Krizhevsky 2009); no licence is given with it",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Which run, and what it is called."""

    workdir: runs.RunFolder
    """Folder of a finished run: the best step by validation is taken."""
    name: cli.Name
    """What it will be loaded by, such as gated-pixelcnn-digits."""
    _: dataclasses.KW_ONLY
    output: str | None = None
    """Folder of the two files; by default where a checkout of gen_jax has its own."""
    num_samples: int = 0
    """For a VAE, codes of each image for the tighter bound of IWAE, such as 5000; 0 for none."""
    batch_size: int = 250
    """Images scored at once."""
    data_name: cli.DataName = None
    """Where the data of the run are now, if not where they were: the content decides."""
    data_dir: cli.DataDir = None
    """Folder of the prepared TFDS sets, if it is not that of the training."""
    licence: str | None = None
    """Licence of the data; known for digits, mnist, binarized_mnist and cifar10."""
    overwrite: bool = False
    """Replace a model of that name."""


def main(arguments: Sequence[str]) -> None:
    """Parses, scores the run and its rounded weights, and writes NAME.safetensors and NAME.json."""
    publish(cli.parse(Options, "gen_jax publish", arguments))


def publish(options: Options) -> Path:
    """The path of the card. ValueError for a run that is not finished, or a name that is taken."""
    name = options.name
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name is {name!r}; accepted: small letters, digits and single hyphens")
    scoring = evaluate.Options(
        options.workdir,
        split="test",
        batch_size=options.batch_size,
        num_samples=options.num_samples,
    )
    evaluate.check(scoring)
    selection, run = _finished(options.workdir)
    path = _destination(options)
    evaluate.check_codes(scoring, run)
    record = _portable(run.record)
    command, licence = training_command(name, record), _licence(options, run.record)
    config = _data(run, options)
    scoring = dataclasses.replace(scoring, data=config)
    source = runs.load_images(run, scoring)
    if source.fingerprint != run.record["data"]["fingerprint"]:
        raise ValueError(
            f"{config.name} is not the data of this run; accepted: what it was trained on"
        )
    dataset = runs.load_data(config, tell=False)
    exact = evaluate.measure(run, source, dataclasses.replace(scoring, num_samples=0))
    content, rounded, measured, dtype = _round(run, source, scoring, exact.result["nats"])
    moved = measured.result["nats"] - exact.result["nats"]
    images, labels = pretrained.fixed_images(run.model)
    scores = pretrained.fixed_scores(run.model, rounded.variables, images, labels)
    training_config = record["training"]
    card = cards.Card(
        format=cards.FORMAT,
        run=record,
        step=run.step,
        steps=training_config["steps"],
        epochs=training_config["steps"] * training_config["batch_size"] / len(dataset.train),
        command=command,
        licence=licence,
        selection=dataclasses.replace(selection, images=len(dataset.validation)),
        test=_score(measured.result, run.objective.report.label),
        weights=cards.Rounding(
            dtype, measured.result["parameters"], weights.digest(content), moved
        ),
        check=cards.SelfCheck(
            pretrained.IMAGES,
            pretrained.fixed_measure(run.model),
            tuple(round(float(nats), 4) for nats in scores),
        ),
        versions={k: v for k, v in results.environment().items() if k != "device"},
    )
    with replacing(path.with_suffix(".safetensors")) as temporary:
        temporary.write_bytes(content)
    write_atomically(path, cards.to_json(card))
    for line in measured.lines:
        cli.say(line)
    cli.say(
        f"{name}: step {run.step}, {dtype}, {len(content) / 1e6:.2f} MB, rounding moved the score "
        f"by {moved:+.4f} nats; wrote {path} and {path.with_suffix('.safetensors')}"
    )
    return path


def _destination(options: Options) -> Path:
    """Where the card goes: asked before anything is scored."""
    if options.output is not None:
        folder = results.writable(training.Workdir(options.output).path)
    elif (pretrained.FOLDER.parents[1] / "setup.cfg").is_file():
        folder = results.writable(pretrained.FOLDER)
    else:
        raise ValueError(
            f"{pretrained.FOLDER} is not in a checkout of gen_jax; accepted: a folder, by --output"
        )
    path = folder / f"{options.name}.json"
    there = [p for p in (path, path.with_suffix(".safetensors")) if os.path.lexists(p)]
    if there and not _is_card(path):
        raise ValueError(
            f"{there[0]} was not published, and is not replaced; accepted: another name, or "
            "the folder without it (move it away)"
        )
    if there and not options.overwrite:
        raise ValueError(f"{path} is there; accepted: another name, or --overwrite")
    return path


def _is_card(path: Path) -> bool:
    """Whether it says that it is one of ours, whatever else it says."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.get("format") == cards.FORMAT


def _finished(workdir: str) -> tuple[cards.Selection, runs.Run]:
    """What chose the step, and the run at it. ValueError unless it came to its last step."""
    if pretrained.is_shipped(workdir):
        raise ValueError(f"{workdir} is published; accepted: the folder of a finished run")
    folder = training.Workdir(workdir)
    run = runs.open_run(str(folder.path))
    losses = training.complete_steps(folder.path)
    run = dataclasses.replace(run, record=_without_idle_settings(run.record, max(losses)))
    wanted = run.record["training"]["steps"]
    if max(losses) < wanted:
        raise ValueError(
            f"{folder.path} is at step {max(losses)} of {wanted}; accepted: {wanted}, so let it "
            "finish first"
        )
    loss = losses[run.step]
    if loss is None:
        raise ValueError(
            f"{folder.path} has no validated step, so none is the best; accepted: one or more"
        )
    return cards.Selection("validation", 0, loss), run


def _without_idle_settings(record: Json, last: int) -> Json:
    """The record without the settings that a finished run was told, and took no step by."""
    if not record["earlier"] or record["earlier"][-1]["until"] < last:
        return record
    *earlier, stage = record["earlier"]
    return {**record, "training": stage["training"], "earlier": earlier}


def _portable(record: Json) -> Json:
    """run.json without the paths of the machine that it was written on.

    What is left of the path of data is a path still, lest it be the name of another set.
    """
    config = dict(record["data"].get("config") or {})
    if config.get("name", "").startswith(("/", "~")):
        config["name"] = f"./{_last(config['name'])}"
    config["data_dir"] = None
    start = record["init_from"]
    if start is not None and os.path.dirname(start["run"]):
        start = {**start, "run": _last(start["run"])}
    data_record = {**record["data"], "config": config}
    order = (
        "model", "objective", "data", "training", "processes", "init_from", "earlier", "versions",
    )  # fmt: skip
    changed = {**record, "data": data_record, "init_from": start}
    return {"format": FORMAT, **{name: changed[name] for name in order}}


def _last(path: str) -> str:
    return os.path.basename(os.path.abspath(os.path.expanduser(path)))


def _data(run: runs.Run, options: Options) -> data.DataConfig:
    """The data of the run, where they are now."""
    config = run.data_config
    if config is None:
        raise ValueError(
            f"{run.described_in} does not say what it was trained on; accepted: a run that does"
        )
    return dataclasses.replace(
        config,
        name=options.data_name or config.name,
        data_dir=options.data_dir or config.data_dir,
    )


def _licence(options: Options, record: Json) -> str:
    name = record["data"]["config"].get("name", "")
    licence = options.licence or LICENCES.get(name.partition("/")[0].partition(":")[0])
    if licence is None:
        raise ValueError(
            f"the licence of the data {name!r} is not known; accepted: one that --licence says"
        )
    return licence


def _round(
    run: runs.Run, source: runs.Images, options: evaluate.Options, exact: float
) -> tuple[bytes, runs.Run, evaluate.Measured, cards.Precision]:
    """A file of the parameters in the shortest type that is good enough, and its scores."""
    precisions: tuple[cards.Precision, ...] = ("float16", "float32")
    for dtype in precisions:
        try:
            content = weights.to_bytes(run.variables["params"], dtype)
        except ValueError:  # past the largest number of half precision
            continue
        variables = jax.device_put({"params": weights.from_bytes(content)}, jax.local_devices()[0])
        rounded = dataclasses.replace(run, variables=variables)
        # First without the tighter bound, which may take long.
        quick = evaluate.measure(rounded, source, dataclasses.replace(options, num_samples=0))
        if abs(quick.result["nats"] - exact) < TOLERANCE or dtype == "float32":
            measured = evaluate.measure(rounded, source, options) if options.num_samples else quick
            return content, rounded, measured, dtype
    raise ValueError(
        f"the parameters of {run.described_in} are not finite; accepted: finite numbers"
    )


def _score(result: Json, label: str) -> cards.Score:
    names = {field.name for field in dataclasses.fields(cards.Score)}
    fields: Json = dict.fromkeys(names)
    fields |= {key: value for key, value in result.items() if key in names}
    return cards.Score(**{**fields, "measure": label.rstrip(",")})


# The command that trains a run: a preset, and an option for each setting in which they differ.

# What the data say, and where they lie.
_OF_DATA = ("model.image_shape", "model.num_codes", "data.data_dir")


def training_command(name: str, record: Json) -> str:
    """What trains the run of a record: by the preset of that name, else by the nearest.

    A run that went on by other settings has a command for each.
    ValueError if no preset with options does.
    """
    record = with_defaults(record)
    preset = _nearest_preset(name, record)
    last = {"until": record["training"]["steps"], "training": record["training"]}
    commands = []
    for stage in (*record["earlier"], last):
        arguments = _arguments(preset, {**record, "training": stage["training"]})
        line = f"gen_jax train {shlex.join(arguments)}" + (" --resume" if commands else "")
        if stage["until"] != stage["training"]["steps"]:
            line += f" (stopped at step {stage['until']})"
        commands.append(line)
    return " && ".join(commands)


def _nearest_preset(name: str, record: Json) -> str:
    """That of the name if it trains such a run with options, else the one that needs the fewest."""
    found = {}
    for preset in PRESETS:
        changed = _changed(preset, record)
        if changed is not None:
            found[preset] = len(_options(changed))
    if not found:
        model = record["model"]
        raise ValueError(
            f"no preset trains a {model['model']} with likelihood {model['likelihood']['name']} "
            f"by {record['objective']['name']}; accepted: what a preset with options trains"
        )
    return name if name in found else min(found, key=lambda preset: found[preset])


def _changed(preset: str, record: Json) -> Json | None:
    """Settings of the record that the preset has otherwise; None if no option makes them so."""
    wanted, have = _settings_of(record), _settings_of(record_of(PRESETS[preset]))
    # One that only the other has belongs to another class of model, likelihood or objective.
    if have.keys() != wanted.keys():
        return None
    changed = {key: value for key, value in wanted.items() if value != have[key]}
    fixed = (".model", ".likelihood.name", "objective.name")
    return None if any(key.endswith(fixed) for key in changed) else changed


def _arguments(preset: str, record: Json) -> list[str]:
    """What `gen_jax train` is told to train the run of a record."""
    arguments = [preset, *_options(_changed(preset, record) or {})]
    if record["init_from"] is not None:
        arguments += ["--init-from", record["init_from"]["run"]]
    line, reason = f"gen_jax train {shlex.join(arguments)}", "it would train another run"
    try:
        if _settings_of(record_of(train.parse(arguments))) == _settings_of(record):
            return arguments
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{line}: {reason}; accepted: what a preset with options trains")


def record_of(experiment: Experiment) -> Json:
    """What run.json will say of an experiment, as far as its options go."""
    record = {
        "model": models.to_dict(experiment.model),
        "objective": training.target_to_dict(experiment.objective),
        "data": {"config": data.to_dict(experiment.data)},
        "training": dataclasses.asdict(experiment.training),
    }
    return with_defaults(json.loads(json.dumps(record)))


def _settings_of(record: Json) -> Json:
    """Dotted name -> value of each setting that a command can give."""
    parts = {"model": record["model"], "objective": record["objective"]}
    parts |= {"data": record["data"]["config"], "training": record["training"]}
    flat = flatten_dict(parts, sep=".")
    return {name: value for name, value in flat.items() if name not in _OF_DATA}


def _options(settings: Json) -> list[str]:
    return [argument for name, value in settings.items() for argument in _option(name, value)]


def _option(name: str, value: object) -> list[str]:
    section, _, last = name.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        return [f"--{section}.{last}" if value else f"--{section}.no-{last}"]
    if isinstance(value, str) and value.startswith("-"):
        return [f"--{section}.{last}={value}"]
    values = value if isinstance(value, list) else [value]
    return [f"--{section}.{last}", *map(str, values)]
