"""Score a trained run on a whole split: `gen_jax evaluate WORKDIR`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np

from gen_jax import data, figures, objectives, training
from gen_jax.files import write_atomically
from gen_jax.models.shared.protocol import has_code, has_posterior, takes_labels
from gen_jax.precision import Precision, matmul_precision
from gen_jax.scripts import cli, results, runs
from gen_jax.typing import Json

_CHUNK = 50


@dataclasses.dataclass(frozen=True)
class Options(runs.ImageOptions):
    """What to score: every image of a split once."""

    batch_size: int = 250
    """Images scored at once."""
    num_samples: int = 0
    """For a VAE, codes of each image for the tighter bound of IWAE, such as 5000; 0 for none."""
    chunk_size: int | None = None
    """With --num-samples, codes of an image in memory at once; by default 50."""
    classify: cli.UnlessOff = True
    """Score a class-conditional model as a classifier too: one pass for each class."""
    precision: Precision = "highest"
    """How exactly a GPU or TPU multiplies matrices; on a CPU both are the same.
    default: as JAX does, which is faster. highest: with all digits of float32."""
    scores: Literal["npz", "csv"] = "npz"
    """Kind of the file with one value an image."""


def main(arguments: Sequence[str]) -> None:
    """Parses, scores, prints; writes evaluation-SPLIT.json, one value an image, and a map."""
    evaluate(runs.parse_on_images(Options, "gen_jax evaluate", arguments))


def evaluate(options: Options) -> Json:
    """The result as a dict, also written to evaluation-SPLIT.json."""
    check(options)
    run = runs.open_run(options.workdir, options.step)
    check_codes(options, run)
    folder = results.output_folder(options, run)
    source = runs.load_images(run, options)
    split, name = source.split, results.name_for(folder, "evaluation", source)
    with matmul_precision(options.precision):
        measured = measure(run, source, options)
    path = results.save_json(folder / f"evaluation-{name}.json", measured.result)
    each = _save_scores(folder / f"evaluation-{name}.{options.scores}", measured.columns)
    for line in (*measured.lines, f"wrote {path}, and {each} with one value an image"):
        cli.say(line)
    if not has_code(run.model):
        some = slice(0, 12)
        labels = None if split.labels is None else split.labels[some]
        with matmul_precision(options.precision):
            nats = objectives.log_likelihood_map(
                run.model, run.variables, split.images[some], labels
            )
        path = folder / f"surprise-{name}.png"
        results.picture(
            figures.save_site_map, split.images[some], np.asarray(nats), source.levels, path
        )
    return measured.result


def check(options: Options) -> None:
    """ValueError for options that no run takes."""
    cli.check_counts(batch_size=options.batch_size)
    if options.chunk_size is not None:
        cli.check_counts(chunk_size=options.chunk_size)
        if not options.num_samples:
            raise ValueError(
                f"chunk_size is {options.chunk_size}; accepted, where num_samples is 0: None"
            )
    cli.noise_key(options.seed)


def check_codes(options: Options, run: runs.Run) -> None:
    """ValueError for codes of a model that has no posterior."""
    if options.num_samples < 0 or (options.num_samples and not has_posterior(run.model)):
        raise ValueError(
            f"num_samples is {options.num_samples}, for {type(run.model).__name__}; accepted: 0, "
            "or at least 1 for a VAE"
        )


class Measured(NamedTuple):
    """What a run is worth on a split."""

    result: Json
    """As JSON."""
    columns: dict[str, np.ndarray | None]
    """One value an image."""
    lines: list[str]
    """To be said once all of it is on the disk."""


def measure(run: runs.Run, source: runs.Images, options: Options) -> Measured:
    """Scores every image of `source` once; writes nothing."""
    key = cli.noise_key(options.seed)
    split, name = source.split, source.name
    mesh = training.make_mesh()
    batches = data.eval_batches(split, cli.round_up(options.batch_size, mesh.size))

    def score(target: training.Target, what: str) -> training.Scores:
        return training.score(
            run.model,
            run.variables["params"],
            cli.track(batches, len(batches), f"{what} of {name}"),
            key,
            target,
            mesh,
            options.precision,
        )

    reported = run.objective.report
    scores = score(reported, "scoring")
    columns = {"nats": scores.nats, "bits_per_dim": scores.bits_per_dim, "labels": split.labels}
    scored = scores.mean()
    result: Json = {
        "objective": training.target_to_dict(reported),
        **scored.as_dict(),
        "images": scored.count,
        "data": source.dataset,
        "split": name,
        "fingerprint": source.fingerprint,
        "binarization": source.binarization,
        "precision": options.precision,
        # Codes are drawn by the number of the batch.
        "seed": options.seed,
        "batch_size": batches.batch_size,
        "levels": source.levels,
        "augmentation": run.augmentation,
        "model": run.record["model"],
        "step": run.step,
        "parameters": sum(x.size for x in jax.tree.leaves(run.variables)),
        **results.environment(),
    }
    lines: list[str] = []
    about = f"{scored.count} images of {source.dataset}, binarization: {source.binarization}"
    lines.append(f"{name}: {reported.label} {_describe(scored)}, {about}")
    if has_posterior(run.model):
        active = active_units(run, batches)
        result["active_units"] = active
        lines.append(
            f"{name}: reconstruction {scored.terms['reconstruction']:.2f}, KL "
            f"{scored.terms['kl']:.2f} nats; {active} of {run.model.num_latents} latents active"
        )
    if options.num_samples:
        tighter = training.IWAE(options.num_samples, options.chunk_size or _CHUNK)
        bounds = score(tighter, f"IWAE bound, k = {options.num_samples},")
        columns["iwae_nats"] = bounds.nats
        bound = bounds.mean()
        result |= {
            "iwae_samples": options.num_samples,
            "iwae_nats": bound.nats,
            "iwae_nats_standard_error": bound.nats_standard_error if bound.count > 1 else None,
        }
        lines.append(f"{name}: {tighter.label} {_describe(bound)}, {about}")
    if options.classify and not has_code(run.model) and takes_labels(run.model):
        result["accuracy"] = classify(run, split, batches)
        lines.append(f"{name}: {100 * result['accuracy']:.2f} % of p(y|x) put the label first")
    return Measured(result, columns, lines)


def _save_scores(path: Path, columns: Mapping[str, np.ndarray | None]) -> Path:
    """One line an image, in the order of the split: .npz or .csv."""
    present = {key: value for key, value in columns.items() if value is not None}
    if path.suffix == ".npz":
        return results.save_arrays(path, **present)
    scores = zip(*(value.tolist() for value in present.values()), strict=True)
    lines = (",".join(map(repr, image)) for image in scores)
    write_atomically(path, "\n".join([",".join(present), *lines]) + "\n")
    return path


def _describe(scored: training.Evaluation) -> str:
    bits, nats = f"{scored.bits_per_dim:.4f}", f"{-scored.nats:.2f}"
    if scored.count > 1:
        bits += f" ± {scored.bits_per_dim_standard_error:.4f}"
        nats += f" ± {scored.nats_standard_error:.2f}"
    return f"{bits} bits/dim ({nats} nats an image)"


def active_units(run: runs.Run, batches: data.EvalBatches) -> int:
    """How many latents say something of the images of a split."""
    encode = jax.jit(
        lambda variables, images, labels: run.model.apply(
            variables, images, labels, method="encode"
        ).mean()
    )
    means = [
        np.asarray(encode(run.variables, batch["images"], batch.get("labels")))[batch["mask"]]
        for batch in batches
    ]
    return int(objectives.active_units(np.concatenate(means)).sum())


def classify(run: runs.Run, split: data.Split, batches: data.EvalBatches) -> float:
    """The fraction of a split whose label has the largest p(y | x), by Bayes' rule."""
    log_posterior = jax.jit(objectives.log_posterior, static_argnums=0)
    correct = 0
    for batch in cli.track(batches, len(batches), "classifying"):
        guesses = log_posterior(run.model, run.variables, batch["images"]).argmax(axis=-1)
        correct += int(np.sum((np.asarray(guesses) == batch["labels"]) & batch["mask"]))
    return correct / len(split)
