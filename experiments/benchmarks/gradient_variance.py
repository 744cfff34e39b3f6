"""How much does each gradient estimator of a VAE vary?

For a trained VAE and one batch: the variance of the encoder's gradient of the ELBO, summed over its
parameters, against the number of codes an image. All estimators are unbiased for the same gradient
(straight-through aside), so the variance is what tells them apart.
"""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from gen_jax import checks, figures, objectives
from gen_jax.models.shared.protocol import traits, with_posterior
from gen_jax.scripts import cli, results, runs
from gen_jax.typing import Array

_BASELINES = {"constant": "running-mean", "leave_one_out": "leave-one-out"}


class Method(NamedTuple):
    """An estimator and its baseline, as `objectives.elbo_terms` takes them."""

    estimator: objectives.Estimator
    baseline: objectives.Baseline

    @property
    def name(self) -> str:
        if self.baseline == "none":
            return self.estimator.replace("_", " ")
        return f"score function, {_BASELINES[self.baseline]} baseline"


class Moments(NamedTuple):
    """Of the encoder's gradient, over repeats; each leaf as the parameters."""

    mean: Any
    variance: Any

    @property
    def total_variance(self) -> float:
        """The trace of the covariance."""
        return sum(float(jnp.sum(leaf)) for leaf in jax.tree.leaves(self.variance))


@dataclasses.dataclass(frozen=True)
class Options(runs.ImageOptions):
    """What to measure."""

    split: Literal["test", "validation", "train", "all"] | None = "train"
    """Which images."""
    num_samples: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Codes an image."""
    repeats: int = 400
    """Gradients drawn for each variance."""
    batch_size: int = 20
    """Images of the batch, the first of the split."""


def main(arguments: Sequence[str]) -> None:
    """Parses, measures, prints a table, writes gradient-variance.json and .png."""
    measure(
        runs.parse_on_images(
            Options, "python -m experiments.benchmarks.gradient_variance", arguments
        )
    )


def measure(options: Options) -> dict[str, Any]:
    """The variances as a dict, also written to gradient-variance.json."""
    cli.check_counts(num_samples=options.num_samples, batch_size=options.batch_size)
    checks.whole("repeats", options.repeats, 2)
    run = runs.open_run(options.workdir, options.step)
    with_posterior(run.model)
    folder = results.output_folder(options, run)
    split = runs.load_images(run, options).split
    images = split.images[: options.batch_size]
    labels = None if split.labels is None else split.labels[: len(images)]
    key, constant_key = jax.random.split(cli.noise_key(options.seed))
    # The mean of the bound over these images stands for the running mean of a training.
    bound = jax.jit(lambda key: objectives.elbo(run.model, run.variables, key, images, labels, 8))
    constant = np.mean([bound(k).mean() for k in jax.random.split(constant_key, 100)])
    constant = jnp.asarray(constant, traits(run.model).real_dtype)

    measured = []
    cases = [
        (method, count)
        for method in methods(run.model)
        for count in options.num_samples
        if count > 1 or method.baseline != "leave_one_out"
    ]
    for number, (method, count) in enumerate(cli.track(cases, len(cases), "measuring")):
        found = gradient_moments(
            run.model,
            run.variables["params"],
            jax.random.fold_in(key, number),
            images,
            labels,
            method,
            count,
            options.repeats,
            constant,
        )
        norm = float(jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(found.mean))))
        measured.append(
            {
                "estimator": method.estimator,
                "baseline": method.baseline,
                "num_samples": count,
                "variance": found.total_variance,
                "gradient_norm": norm,
            }
        )
    result = {
        "images": len(images),
        "repeats": options.repeats,
        "constant_baseline": float(constant),
        "model": run.record["model"],
        "step": run.step,
        **results.environment(),
        "rows": measured,
    }
    _report(run, measured, result, folder)
    return result


def methods(model: Any) -> list[Method]:
    """All that the model's latents have."""
    own: objectives.Estimator = "straight_through"
    if model.latents == "gaussian":
        own = "reparametrized"
    baselines: tuple[objectives.Baseline, ...] = ("none", "constant", "leave_one_out")
    return [Method(own, "none"), *(Method("score_function", name) for name in baselines)]


@functools.partial(jax.jit, static_argnums=(0, 5, 6, 7))
def gradient_moments(
    model: Any,
    params: Any,
    key: Any,
    images: Any,
    labels: Any,
    method: Method,
    num_samples: int,
    repeats: int,
    constant: Array,
) -> Moments:
    """Mean and variance, over `repeats` draws, of the encoder's gradient of the mean ELBO."""

    def bound(encoder: Any, key: Any) -> Array:
        terms = objectives.elbo_terms(
            model,
            {"params": {**params, "encoder": encoder}},
            key,
            images,
            labels,
            num_samples,
            estimator=method.estimator,
            baseline=method.baseline,
            constant=constant,
        )
        return jnp.mean(terms.elbo)

    def add(state: tuple[Any, Any], inputs: tuple[Array, Any]) -> tuple[tuple[Any, Any], None]:
        mean, squares = state  # Welford's recurrence
        count, key = inputs
        gradient = jax.grad(bound)(params["encoder"], key)
        new = jax.tree.map(lambda m, g: m + (g - m) / count, mean, gradient)
        squares = jax.tree.map(
            lambda s, m, n, g: s + (g - m) * (g - n), squares, mean, new, gradient
        )
        return (new, squares), None

    zeros = jax.tree.map(jnp.zeros_like, params["encoder"])
    counts = jnp.arange(1, repeats + 1).astype(jax.tree.leaves(zeros)[0].dtype)
    (mean, squares), _ = jax.lax.scan(add, (zeros, zeros), (counts, jax.random.split(key, repeats)))
    return Moments(mean, jax.tree.map(lambda s: s / (repeats - 1), squares))


def _report(
    run: runs.Run, measured: list[dict[str, Any]], result: dict[str, Any], folder: Path
) -> None:
    counts = sorted({row["num_samples"] for row in measured})
    table = Table(title=f"variance of the encoder's gradient, batch of {result['images']} images")
    table.add_column("estimator")
    for count in counts:
        table.add_column(f"{count} code{'s' * (count > 1)}", justify="right")
    curves = {}
    for method in methods(run.model):
        own = {
            row["num_samples"]: row["variance"]
            for row in measured
            if (row["estimator"], row["baseline"]) == tuple(method)
        }
        table.add_row(method.name, *(f"{own[k]:.3g}" if k in own else "" for k in counts))
        curves[method.name] = (list(own), list(own.values()))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print(f"wrote {results.save_json(folder / 'gradient-variance.json', result)}")
    results.picture(
        figures.save_curves,
        curves,
        folder / "gradient-variance.png",
        x_label="codes an image",
        y_label="variance of the encoder's gradient, nats²",
        title="summed over the parameters",
        log_log=True,
        markers=True,
    )


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
