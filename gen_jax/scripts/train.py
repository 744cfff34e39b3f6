"""Train a preset: `gen_jax train PRESET [--model.… --data.… --training.…]`.

Run the same command again to go on with a run that was stopped, at any moment and by anything.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import tyro

from gen_jax import data, figures, models, sampling, training
from gen_jax.models.shared.protocol import has_code, takes_labels
from gen_jax.scripts import cli, results, runs
from gen_jax.scripts.presets import PRESETS, Experiment, find
from gen_jax.typing import Variables

# The image's shape and the number of codes are those of the data.
_OF_DATA = {models.ImageModel: ("image_shape",), models.ImplicitAutoEncoder: ("num_codes",)}
# Options of the optimiser that one schedule alone reads.
_READ_BY = {"final_fraction": "cosine", "decay_rate": "exponential"}


@dataclasses.dataclass(frozen=True)
class Options(Experiment):
    """A preset and where to train it."""

    workdir: str = dataclasses.field(kw_only=True)
    """Folder of the run."""
    init_from: str | None = None
    """Start from the weights of this run or shipped model; they must have the model's shapes."""
    resume: bool = False
    """Go on with the run in the folder though its steps, optimiser or accumulation were others."""
    overwrite: bool = False
    """Delete the run that the folder holds."""
    distributed: bool = False
    """Join the other processes of a cluster job (SLURM, Kubernetes, Open MPI, TPU pods)."""


def main(arguments: Sequence[str]) -> None:
    """Parses, trains, and says where the run is."""
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(f"usage: gen_jax train PRESET [OPTIONS]\n\n{__doc__}\nPresets:")
        for preset, experiment in PRESETS.items():
            model = type(experiment.model).__name__
            print(f"  {preset:32} {model} on {experiment.data.name}")
        print("\ngen_jax train PRESET --help lists the options of a preset.")
        return
    cli.stop(train(parse(arguments)))


def parse(arguments: Sequence[str]) -> Options:
    """What a command says: a preset, and what differs from it."""
    name = arguments[0]
    preset = find(name)
    fields = {field.name: getattr(preset, field.name) for field in dataclasses.fields(Experiment)}
    default = Options(**fields, workdir=f"runs/{name}")
    options: Options = cli.parse(
        tyro.conf.AvoidSubcommands[Options],
        f"gen_jax train {name}",
        arguments[1:],
        hidden=_OF_DATA,
        default=default,
    )
    _check_schedule(options.training.optimizer, preset.training.optimizer)
    return options


def _check_schedule(config: training.OptimizerConfig, preset: training.OptimizerConfig) -> None:
    """ValueError for an option that the schedule does not read."""
    for name, schedule in _READ_BY.items():
        value, before = getattr(config, name), getattr(preset, name)
        if value != before and config.schedule != schedule:
            raise ValueError(
                f"{name} is {value}; accepted, by the schedule {config.schedule}, which does not "
                f"read it: {before}"
            )


def train(options: Options) -> training.TrainResult:
    """Trains `options`; with pictures of samples at intervals, and of the curves at the end."""
    folder = training.Workdir(options.workdir)
    if options.distributed:
        training.initialize_distributed()
    has_samples = _has_samples(options.model)
    if options.training.sample_every and not has_samples:
        raise ValueError(
            f"sample_every is {options.training.sample_every}; accepted, by "
            f"{type(options.model).__name__}, from which nothing is drawn: 0"
        )
    results.refuse_among_images("workdir", folder.path, options.data)
    dataset = runs.load_data(options.data)
    model = fit_model(options.model, dataset)
    batches = data.train_iterator(
        dataset,
        options.training.batch_size,
        options.training.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    evaluation = data.eval_batches(
        dataset.validation,
        cli.round_up(options.training.eval_batch_size, jax.device_count()),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    names = dataset.class_names if takes_labels(model) else None
    count = 16 if names is None or len(names) > 20 else cli.round_up(16, len(names))

    def on_sample(step: int, variables: Variables) -> None:
        images = sampling.sample(
            model, variables, jax.random.key(0), count, labels=runs.labels_for(model, count, None)
        )
        if jax.process_index() == 0:
            (folder.path / "samples").mkdir(exist_ok=True)
            path = folder.path / "samples" / f"step_{step:07d}.png"
            grid = runs.class_columns(names, count)
            figures.save_grid(np.asarray(images), model.likelihood.levels, path, **grid)

    result = training.train(
        model,
        batches,
        lambda: evaluation,
        options.training,
        options.workdir,
        data={
            "config": data.to_dict(data.resolved(options.data)),
            "fingerprint": dataset.fingerprint,
            "binarization": dataset.binarization,
            "levels": dataset.levels,
            "class_names": dataset.class_names,
        },
        objective=options.objective,
        examples=dataset.train.images[:: -(-len(dataset.train) // 10_000)],
        on_sample=on_sample if has_samples else None,
        init_from=options.init_from,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    if result.finished and jax.process_index() == 0:
        cli.say(
            f"best: {result.best_bits_per_dim:.4f} bits/dim on validation at step "
            f"{result.best_step}, in {options.workdir}; {_try_curves(folder)}"
        )
    return result


def _has_samples(model: models.ImageModel) -> bool:
    """Whether there is anything to draw from: a code without a prior has none."""
    return not has_code(model) or model.prior is not None


def fit_model(model: models.ImageModel, dataset: data.Dataset) -> models.ImageModel:
    """The model for the data's image shape. ValueError if levels or classes do not agree."""
    if model.likelihood.levels != dataset.levels:
        raise ValueError(
            f"likelihood is {model.likelihood}; accepted: one of {dataset.levels} levels, as the "
            f"images of {dataset.name} have (binarization: {dataset.binarization}), or other "
            "--data.levels, --data.binarize"
        )
    if model.num_classes is not None and dataset.num_classes is None:
        raise ValueError(
            f"num_classes is {model.num_classes}; accepted, for {dataset.name}, which has no "
            "labels: None"
        )
    if model.num_classes is not None and model.num_classes != dataset.num_classes:
        raise ValueError(
            f"num_classes is {model.num_classes}; accepted, for {dataset.name}: None, "
            f"{dataset.num_classes}"
        )
    return model.adapted(dataset.image_shape, len(dataset.train))


def _try_curves(folder: training.Workdir) -> str:
    """The run is finished whether they can be drawn or not."""
    try:
        return f"curves: {save_curves(folder)}"
    except Exception as error:
        return f"no curves: {' '.join(str(error).split())}"


def save_curves(folder: training.Workdir) -> Path:
    """Training and validation loss against the step, from metrics.jsonl."""
    curves = {}
    for split in ("train", "validation"):
        records = training.read_metrics(folder, split)
        known = [record for record in records if isinstance(record.get("bits_per_dim"), float)]
        steps = [record["step"] for record in known]
        curves[split] = (steps, [record["bits_per_dim"] for record in known])
    return figures.save_curves(curves, folder.path / "loss.png", x_label="step", y_label="bits/dim")
