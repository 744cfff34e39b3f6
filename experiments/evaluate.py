"""Score a trained run on a whole split: `python -m experiments.evaluate WORKDIR`."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from experiments import cli
from gen_jax import data, figures, models, objectives, training
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
    num_samples: int = 0
    """Of a VAE: codes an image of the IWAE bound, such as 5000, beside the ELBO; 0 for none."""
    chunk_size: int = 50
    """Codes an image in memory at once."""
    seed: int = 0
    """Of the codes."""
    classify: bool = True
    """Score a class-conditional model as a classifier too: one pass for each class."""


def main(arguments: Sequence[str]) -> None:
    """Parses, scores, prints and writes evaluation-SPLIT.json and a map of surprise."""
    options = cli.parse(Options, "evaluate", arguments)
    evaluate(options)


def evaluate(options: Options) -> dict[str, Any]:
    """The result as a dict, also written to WORKDIR/evaluation-SPLIT.json."""
    cli.check_counts(batch_size=options.batch_size, chunk_size=options.chunk_size)
    run = cli.open_run(options.workdir, options.step)
    is_vae = isinstance(run.model, models.VAE)
    if options.num_samples < 0 or (options.num_samples and not is_vae):
        raise ValueError(
            f"num_samples is {options.num_samples}, for {type(run.model).__name__}; accepted: 0, "
            "or at least 1 for a VAE"
        )
    dataset = run.load_data(options.data_dir)
    split: data.Split = getattr(dataset, options.split)
    mesh = training.make_mesh()
    batches = data.eval_batches(split, cli.round_up(options.batch_size, mesh.size))

    def score(objective: training.Target, what: str) -> training.Evaluation:
        return training.evaluate(
            run.model,
            run.variables["params"],
            cli.track(batches, len(batches), f"{what} of {options.split}"),
            jax.random.key(options.seed),
            objective,
            mesh,
        )

    # Of a VAE always the same bound, whatever it was trained with.
    objective = training.ELBO(estimator=run.model.estimator) if is_vae else run.objective.evaluation
    scored = score(objective, "scoring")
    result: dict[str, Any] = {
        "objective": training.target_to_dict(objective),
        **scored.as_dict(),
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
    about = f"{scored.count} images of {dataset.name}, binarization: {dataset.binarization}"
    print(f"{options.split}: {_name(objective)} {_describe(scored)}, {about}")
    if is_vae:
        active = active_units(run, batches)
        result["active_units"] = active
        print(
            f"{options.split}: reconstruction {scored.terms['reconstruction']:.2f}, KL "
            f"{scored.terms['kl']:.2f} nats; {active} of {run.model.num_latents} latents active"
        )
    if options.num_samples:
        tighter = training.IWAE(options.num_samples, options.chunk_size)
        bound = score(tighter, f"IWAE bound, k = {options.num_samples},")
        result |= {
            "iwae_samples": options.num_samples,
            "iwae_nats": bound.nats,
            "iwae_nats_standard_error": bound.nats_standard_error,
        }
        print(f"{options.split}: {_name(tighter)} {_describe(bound)}, {about}")
    autoregressive = isinstance(run.model, models.AutoregressiveModel)
    if options.classify and autoregressive and run.model.num_classes is not None:
        result["accuracy"] = classify(run, split, batches)
        print(f"{options.split}: {100 * result['accuracy']:.2f} % of p(y|x) put the label first")
    path = run.workdir.path / f"evaluation-{options.split}.json"
    write_atomically(path, json.dumps(result, indent=2) + "\n")
    print(f"wrote {path}")
    if autoregressive:
        print(f"wrote {_save_map(run, split, options.split)}")
    return result


def _describe(scored: training.Evaluation) -> str:
    return (
        f"{scored.bits_per_dim:.4f} ± {scored.bits_per_dim_standard_error:.4f} bits/dim "
        f"({-scored.nats:.2f} ± {scored.nats_standard_error:.2f} nats an image)"
    )


def _name(objective: training.Target) -> str:
    """What the number is: the negative of …"""
    if isinstance(objective, training.LogLikelihood):
        return "-log p(x)"
    if isinstance(objective, training.ELBO):
        return "-ELBO"
    if isinstance(objective, training.IWAE):
        return f"-IWAE bound, k = {objective.num_samples},"
    if isinstance(objective, training.Reconstruction):
        return "-log p(x | z(x)), no bound of log p(x),"
    return "-log p(x, z(x)), no bound of log p(x),"


def active_units(run: cli.Run, batches: data.EvalBatches) -> int:
    """How many latents say something of the images of a split."""
    encode = jax.jit(
        lambda variables, images, labels: run.model.apply(
            variables, images, labels, method="encode"
        ).mean()
    )
    means = [
        np.asarray(encode(run.variables, batch["images"], run.labels(batch)))[batch["mask"]]
        for batch in batches
    ]
    return int(objectives.active_units(np.concatenate(means)).sum())


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
