"""Score a trained run on a whole split: `python -m experiments.evaluate WORKDIR`."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from experiments import cli
from gen_jax import data, figures, objectives, training
from gen_jax.training.workdir import write_atomically


@dataclasses.dataclass(frozen=True)
class Options:
    """What to score."""

    workdir: cli.RunFolder
    """Folder of a trained run."""
    split: Literal["test", "validation", "train"] = "test"
    """Every image of this split is scored once."""
    step: str = "best"
    """Checkpoint: best (by validation), last, or a step."""
    batch_size: int = 250
    """Images a batch."""
    data_dir: str | None = None
    """Folder of the prepared TFDS sets, if it is not that of the training."""
    classify: bool = True
    """Score a class-conditional model as a classifier too: one pass for each class."""


def main(arguments: Sequence[str]) -> None:
    """Parses, scores, prints and writes evaluation-SPLIT.json and a map of surprise."""
    options = cli.parse(Options, "evaluate", arguments)
    evaluate(options)


def evaluate(options: Options) -> dict[str, Any]:
    """The result as a dict, also written to WORKDIR/evaluation-SPLIT.json."""
    if options.batch_size < 1:
        raise ValueError(f"batch_size is {options.batch_size}; it must be at least 1")
    run = cli.open_run(options.workdir, options.step)
    dataset = run.load_data(options.data_dir)
    split: data.Split = getattr(dataset, options.split)
    mesh = training.make_mesh()
    batches = data.eval_batches(split, cli.round_up(options.batch_size, mesh.size))
    scored = training.evaluate(
        run.model,
        run.variables["params"],
        cli.track(batches, len(batches), f"scoring {options.split}"),
        jax.random.key(0),
        training.log_likelihood_without_dropout,
        mesh,
    )
    result: dict[str, Any] = {
        "nats": scored.nats,
        "nats_standard_error": scored.nats_standard_error,
        "bits_per_dim": scored.bits_per_dim,
        "bits_per_dim_standard_error": scored.bits_per_dim_standard_error,
        "images": scored.count,
        "data": dataset.name,
        "split": options.split,
        "binarization": dataset.binarization,
        "levels": dataset.levels,
        "model": run.record["model"],
        "step": run.step,
        "parameters": sum(x.size for x in jax.tree.leaves(run.variables)),
        **cli.environment(),
    }
    if options.classify and run.model.num_classes is not None:
        result["accuracy"] = classify(run, split, batches)
    path = run.workdir.path / f"evaluation-{options.split}.json"
    write_atomically(path, json.dumps(result, indent=2) + "\n")
    picture = _save_map(run, split, options.split)
    print(
        f"{options.split}: {scored.bits_per_dim:.4f} ± {scored.bits_per_dim_standard_error:.4f} "
        f"bits/dim ({-scored.nats:.2f} ± {scored.nats_standard_error:.2f} nats an image), "
        f"{scored.count} images of {dataset.name}, binarization: {dataset.binarization}"
    )
    if "accuracy" in result:
        print(f"{options.split}: {100 * result['accuracy']:.2f} % of p(y|x) put the label first")
    print(f"wrote {path} and {picture}")
    return result


def classify(run: cli.Run, split: data.Split, batches: data.EvalBatches) -> float:
    """The fraction of a split whose label has the largest p(y | x), by Bayes' rule."""
    log_posterior = jax.jit(objectives.log_posterior, static_argnums=0)
    correct = 0
    for batch in cli.track(batches, len(batches), "classifying"):
        guesses = log_posterior(run.model, run.variables, batch["images"]).argmax(axis=-1)
        correct += int(np.sum((np.asarray(guesses) == batch["labels"]) & batch["mask"]))
    return correct / len(split)


def _save_map(run: cli.Run, split: data.Split, name: str) -> Any:
    images = split.images[:12]
    labels = None if run.model.num_classes is None or split.labels is None else split.labels[:12]
    nats = objectives.log_likelihood_map(run.model, run.variables, images, labels)
    path = run.workdir.path / f"surprise-{name}.png"
    return figures.save_site_map(images, np.asarray(nats), run.model.likelihood.levels, path)


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
