"""A trained run, or a shipped model, opened: its options, its images, its labels."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import jax
import numpy as np
import tyro

from gen_jax import data, pretrained, training
from gen_jax.data import DataConfig
from gen_jax.models.shared.protocol import (
    Model,
    check_inputs,
    has_code,
    has_posterior,
    refuse,
    takes_labels,
    traits,
)
from gen_jax.scripts.cli import parse, progress, say
from gen_jax.training.schema import check_run, other_class, with_defaults
from gen_jax.training.workdir import Workdir
from gen_jax.typing import Array, Json, Labels, Variables

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=Model)
RunFolder = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="WORKDIR")]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What every script on a trained run takes."""

    workdir: RunFolder
    """Folder of a trained run, or the name of a shipped model."""
    _: dataclasses.KW_ONLY
    step: str = "best"
    """Which checkpoint: best (by validation), last, or the number of a step."""
    seed: int = 0
    """Seed of the noise: the same seed gives the same result."""
    output: str | None = None
    """Folder to write to; by default the run's own, or results/NAME for a shipped model."""


@dataclasses.dataclass(frozen=True)
class ImageOptions(RunOptions):
    """What every script on images takes; `--data.name` and its like read other images."""

    split: Literal["test", "validation", "train", "all"] | None = None
    """Which images; by default test, or all images of a set other than the run's."""
    data: DataConfig | None = None
    """Where the images come from; by default what the run was trained on."""
    data_dir: str | None = None
    """Folder of the prepared TFDS sets, if it is not that of the training."""


def parse_on_images(options: Callable[..., T], prog: str, arguments: Sequence[str]) -> T:
    """`parse` for `ImageOptions`: what --data.… leaves out is as the run has it."""
    flat: Any = tyro.conf.AvoidSubcommands[options]

    def parsed(config: DataConfig) -> Any:
        default: Any = options("", data=config)
        object.__setattr__(default, "workdir", tyro.MISSING)  # it must be given
        # Of the data's folder there is one option, --data.data-dir, as in training.
        hidden = {ImageOptions: ("data_dir",)}
        return parse(flat, prog, arguments, hidden=hidden, default=default)

    plain = parsed(DataConfig())
    config = read_record(plain.workdir)["data"].get("config")
    if config is not None:
        return parsed(data_config(config))
    given = any(argument.startswith("--data.") for argument in arguments)
    return plain if given else dataclasses.replace(plain, data=None)


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run, or a shipped model, opened."""

    workdir: Workdir
    """The run's; of a shipped model that of its results."""
    record: Json
    model: Model
    variables: Variables
    step: int
    name: str | None = None
    """Of a shipped model."""

    @property
    def described_in(self) -> Path:
        """The file that says what it is."""
        return self.workdir.run if self.name is None else pretrained.path_of(self.name)

    @property
    def objective(self) -> training.Target:
        """What it was trained with; ELBO or the log-likelihood, if that was a function."""
        config = self.record["objective"]
        if config["name"] in training.TARGETS:
            return training.target_from_dict(config)
        return training.ELBO() if has_posterior(self.model) else training.LOG_LIKELIHOOD

    @property
    def data_config(self) -> DataConfig | None:
        """What it was trained on; None if whoever trained it did not say."""
        config = self.record["data"].get("config")
        return None if config is None else data_config(config)

    @property
    def augmentation(self) -> str | None:
        """What was done to training images: 'none', 'flips', …"""
        return None if self.data_config is None else data.augmentation(self.data_config)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the model's classes, where its data gave names."""
        names = self.record["data"].get("class_names")
        return None if names is None or not takes_labels(self.model) else tuple(names)

    def labels(self, labels: np.ndarray | None, names: Sequence[str] | None) -> np.ndarray | None:
        """The labels of images if the model takes them; `names` are those of their data's classes.

        Classes are matched by name where both have names. ValueError if there are no labels, or
        a class that the model does not know.
        """
        if not takes_labels(self.model):
            return None
        if labels is None:
            raise ValueError(
                f"labels is None; accepted, by a model with {traits(self.model).num_classes} "
                "classes: one an image"
            )
        own = self.class_names
        if own is None or names is None or tuple(names) == own:
            return labels
        strange = [name for name in names if name not in own]
        if strange:
            raise ValueError(f"the images have a class {strange[0]!r}; accepted: {', '.join(own)}")
        return np.array([own.index(name) for name in names], np.int32)[labels]


class Images(NamedTuple):
    """Images to score, complete or reconstruct, and what a result says of them."""

    split: data.Split
    """The images, and their labels if the model takes them."""
    name: str
    """The split; of a set other than the run's, the set and the split."""
    dataset: str
    """Where they come from."""
    binarization: str
    levels: int
    fingerprint: str
    """Hash of the content of all its splits."""


def load_images(run: Run, options: ImageOptions) -> Images:
    """The images that the options ask for.

    The content decides whether they are the run's own data, wherever these lie by now.
    ValueError if the own have another content now, or the model cannot take them.
    """
    own = run.data_config
    config = own if options.data is None else options.data
    if config is None:
        raise ValueError(
            f"{run.described_in} does not say where its data are; accepted: with --data.name"
        )
    if options.data_dir is not None:
        config = dataclasses.replace(config, data_dir=options.data_dir)
    other = own is None or config != dataclasses.replace(own, data_dir=config.data_dir)
    expected = run.record["data"]["fingerprint"]
    dataset = None
    try:
        dataset = load_data(config, tell=False)
    except ValueError as error:
        if not other:
            raise ValueError(
                f"{error}; accepted too: --data.name, where the data are now"
            ) from error
        # It may be too small to be split: then it is not the run's.
    known = dataset is not None and dataset.fingerprint == expected
    if not known and not other:
        raise ValueError(
            f"{config.name} is not the data of this run any more: fingerprint "
            f"{dataset.fingerprint if dataset else None} here, {expected} in {run.described_in}; "
            "accepted: the same data, by --data.name or --data.data-dir, or others, by --data.name"
        )
    name = options.split or ("test" if known else "all")
    if name == "all" or dataset is None:
        dataset = load_data(config, whole=name == "all", tell=False)
    say_notes(dataset)
    split: data.Split = dataset.train if name == "all" else getattr(dataset, name)
    if dataset.levels != run.model.likelihood.levels:
        raise ValueError(
            f"the images of {dataset.name} have {dataset.levels} levels (binarization: "
            f"{dataset.binarization}); accepted: the model's {run.model.likelihood.levels}, by "
            "--data.levels, --data.values or --data.binarize"
        )
    split = dataclasses.replace(split, labels=run.labels(split.labels, dataset.class_names))
    check_inputs(run.model, split.images, split.labels)
    if known and other:
        say(f"{config.name} holds the data of this run")
    if not known:
        name = f"{Path(os.path.abspath(dataset.name)).stem}-{name}"
    return Images(
        split, name, dataset.name, dataset.binarization, dataset.levels, dataset.fingerprint
    )


def open_run(workdir: str, step: str = "best") -> Run:
    """Reads a run and its model: the EMA at `step` (best, last or a number)."""
    if step != "best" and step != "last" and not step.isdigit():
        raise ValueError(f"step is {step!r}; accepted: best, last or a number")
    chosen = step if step == "best" or step == "last" else int(step)
    record = read_record(workdir)
    other = other_class(record["model"])
    if other is not None:
        raise ValueError(
            f"{workdir} has the {other}; accepted by a command: one of gen_jax; from Python: "
            f"gen_jax.load({workdir!r}, model=…)"
        )
    if pretrained.is_shipped(workdir):
        model, variables = pretrained.load(workdir, step=chosen)
        folder = Workdir(Path("results") / workdir)
        number = pretrained.card(workdir).step
        return Run(folder, with_defaults(record), model, variables, number, workdir)
    folder = Workdir(workdir)
    model, variables, number, record = training.load_step(folder, chosen)
    return Run(folder, with_defaults(record), model, variables, number)


def read_record(workdir: str) -> Json:
    """What is said of a run: by its run.json, or by the card of a shipped model."""
    if not pretrained.is_shipped(workdir):
        return Workdir(workdir).read()
    record = pretrained.card(workdir).run
    check_run(record, f"{pretrained.path_of(workdir)}: run")
    return record


def expected_images(run: Run, codes: Array, labels: Labels | None) -> np.ndarray:
    """The expected levels of each code's image, real numbers `[B, H, W, C]`."""
    params = run.model.apply(run.variables, codes, labels, method="decode")
    return np.asarray(run.model.likelihood.mean(params, run.model.image_shape[-1]))


def data_config(fields: Json, data_dir: str | None = None) -> data.DataConfig:
    """A DataConfig from JSON; `data_dir` goes before the one in it.

    ValueError for a field that this version does not know.
    """
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    known = {field.name for field in dataclasses.fields(DataConfig)}
    for name in fields.keys() - known:
        raise ValueError(f"data.config.{name} is {fields[name]!r}; accepted: no such field")
    config = DataConfig(**fields)
    return dataclasses.replace(config, data_dir=data_dir or config.data_dir)


def load_data(config: DataConfig, whole: bool = False, tell: bool = True) -> data.Dataset:
    """`data.load`, or `load_whole`, with a bar while images decode; its notes are printed."""
    load = data.load_whole if whole else data.load
    with progress() as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", data.DataWarning)  # its notes say the same
        task = bar.add_task(f"reading {config.name}", total=None)
        dataset = load(config, lambda done, total: bar.update(task, completed=done, total=total))
    if tell:
        say_notes(dataset)
    return dataset


def say_notes(dataset: data.Dataset) -> None:
    """What was assumed and left out in reading, a line each."""
    if jax.process_index() == 0:
        for note in dataset.notes:
            say(f"{dataset.name}: {note}")


def autoregressive(model: ModelT) -> ModelT:
    """The model, if it draws site by site. ValueError for another."""
    if has_code(model):
        refuse(model, "an autoregressive model")
    return model


def labels_for(
    model: Model,
    count: int,
    label: str | int | None,
    names: Sequence[str] | None = None,
) -> np.ndarray | None:
    """Labels of `count` samples: `label`, or all classes in turn; None without classes.

    A label is a number or one of the classes' `names`.
    """
    num_classes = traits(model).num_classes
    if num_classes is None:
        if label is not None:
            raise ValueError(f"label is {label}; accepted, by a model without classes: None")
        return None
    if label is None:
        return np.arange(count, dtype=np.int32) % num_classes
    if names is not None and label in names:
        number = list(names).index(str(label))
    else:
        number = int(label) if str(label).isdecimal() else -1
    if not 0 <= number < num_classes:
        known = f", {', '.join(names)}" if names else ""
        raise ValueError(f"label is {label}; accepted: 0 … {num_classes - 1}{known}")
    return np.full(count, number, np.int32)


def class_columns(names: Sequence[str] | None, count: int) -> Json:
    """How a grid of `count` samples of all classes in turn shows their names: one a column."""
    if names is None or len(names) > min(20, count):
        return {}
    return {"columns": len(names), "names": names}
