"""How fast is sampling?

For each batch size: seconds by every method that the model has, against ONE whole-image pass of
the same batch, compiled as `training.evaluate` compiles it. They are timed in turn, in the same
process, and their ratio is the median of the pairs. The floor is the larger of a pass's arithmetic
at the rate of a large matmul and, with attention, of the memory traffic of keys, values and
parameters. Compilation is timed apart. Naive runs its first sites only and is scaled by their
share, which the table says. Passes of fixed_point, over the image, and of block_fixed_point, over a
block, depend on the parameters: give a trained run.
"""

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import timing
from gen_jax import checks, figures, likelihoods, models, sampling
from gen_jax.files import write_atomically
from gen_jax.precision import Precision, matmul_precision
from gen_jax.sampling.methods import METHODS, Canvas, methods_of
from gen_jax.scripts import cli, results, runs
from gen_jax.scripts.presets import find
from gen_jax.xla import compiler_options


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    model: models.ImageModel
    """The network, with random parameters: that of PRESET, or Gated PixelCNN, 7 layers of 64."""
    workdir: str | None = None
    """A trained run, instead of `model`."""
    batch_sizes: tuple[int, ...] = (1, 8, 64)
    """Images drawn at once."""
    methods: tuple[sampling.Method, ...] = ()
    """Which samplers; by default all that the model has."""
    image_sizes: tuple[int, ...] = ()
    """Heights (and widths) to repeat the scan at, to see the cost grow with the sites."""
    known_rows: int = 0
    """Completing too, from so many rows at the top, against drawing all; all methods but naive."""
    naive_sites: int = 8
    """Sites that naive sampling is timed on."""
    repeats: int = 7
    """Timed runs of each; medians are reported."""
    precision: Precision = "default"
    """How exactly a GPU or TPU multiplies matrices, in one pass and in all methods."""
    output: str = "runs/benchmark-sampling"
    """Folder for the table as JSON and the plot."""


def main(arguments: Sequence[str]) -> None:
    """Parses, measures, prints a table, writes sampling.json and sampling.png."""
    model: models.ImageModel = models.GatedPixelCNN((28, 28, 1), likelihoods.Bernoulli())
    script = "python -m experiments.benchmarks.sampling"
    if arguments and not arguments[0].startswith("-"):
        model = runs.autoregressive(find(arguments[0]).model)
        script = f"{script} {arguments[0]}"
        arguments = arguments[1:]
    options = cli.parse(
        tyro.conf.AvoidSubcommands[Options], script, arguments, default=Options(model)
    )
    cli.check_counts(
        batch_sizes=options.batch_sizes,
        naive_sites=options.naive_sites,
        repeats=options.repeats,
    )
    if options.workdir is None:
        model, variables = options.model, _random(options.model)
    else:
        run = runs.open_run(options.workdir)
        assert isinstance(run.model, models.ImageModel)  # no other is loaded by its name
        model, variables = runs.autoregressive(run.model), run.variables
    smallest = min((model.image_shape[0], *options.image_sizes))
    checks.whole("known_rows", options.known_rows, 0, smallest - 1)
    there = methods_of(model)
    for method in options.methods:
        checks.choice("methods", method, there)
    options = dataclasses.replace(options, methods=options.methods or there)
    cases = [(model, variables, batch, options.methods) for batch in options.batch_sizes]
    for size in options.image_sizes:
        # Parameters may belong to the image's size; what a scan costs does not depend on them.
        other = model.clone(image_shape=(size, size, model.image_shape[-1]))
        cases.append((other, _random(other), max(options.batch_sizes), ("scan",)))
    with matmul_precision(options.precision):
        measured = [_measure(*case, options) for case in cli.track(cases, len(cases), "measuring")]
    _report(options, model, measured)


def _random(model: models.ImageModel) -> Any:
    labels = None if model.num_classes is None else np.zeros(1, np.int32)
    images = np.zeros((1, *model.image_shape), np.uint8)
    return jax.jit(model.init)(jax.random.key(0), images, labels)


def _measure(
    model: Any, variables: Any, batch: int, methods: Sequence[sampling.Method], options: Options
) -> dict[str, Any]:
    labels = runs.labels_for(model, batch, None)
    labels = None if labels is None else np.asarray(labels, np.int32)
    images = np.random.RandomState(0).randint(
        model.likelihood.levels, size=(batch, *model.image_shape), dtype=np.int32
    )
    num_sites = math.prod(model.image_shape[:2]) * model.sites
    platform = jax.default_backend()
    xla_options = compiler_options("sampling", platform)
    one_pass, compile_pass = timing.compile_call(
        model.apply, variables, images, labels, options=compiler_options("evaluation", platform)
    )
    row: dict[str, Any] = {
        "batch": batch,
        "image_shape": model.image_shape,
        "sites": num_sites,
        "pass_compile_seconds": compile_pass,
        "methods": {},
    }
    timing.seconds(one_pass)  # a warm-up
    pass_seconds = []
    row["floor"] = _floor(model, variables, images, labels, options)
    for method in methods:
        sites = min(options.naive_sites, num_sites)
        share = sites / num_sites if method == "naive" else 1.0
        draw = _sampler(model, method, sites)
        sampler, compile_seconds = timing.compile_call(
            draw, variables, jax.random.key(1), images, labels, options=xla_options
        )
        passes = int(sampler()[1])  # and a warm-up
        calls = [one_pass, sampler]
        if options.known_rows and method != "naive":
            known = np.zeros(images.shape, bool)
            known[:, : options.known_rows] = True
            completer, _ = timing.compile_call(
                draw, variables, jax.random.key(1), images, labels, known, options=xla_options
            )
            completer()
            calls.append(completer)
        # Right after a sampler a pass finds its memory cold, and may take half as long again.
        times = timing.in_turn(one_pass, *calls, repeats=options.repeats)[:, 1:]
        times[:, 1] /= share
        pass_seconds.extend(times[:, 0])
        seconds = float(np.median(times[:, 1]))
        row["methods"][method] = {
            "seconds": seconds,
            "images_per_second": batch / seconds,
            "over_one_pass": float(np.median(times[:, 1] / times[:, 0])),
            "over_floor": seconds / row["floor"]["seconds"],
            "compile_seconds": compile_seconds,
            "passes": num_sites if method == "naive" else passes,
            "timed_sites": sites if method == "naive" else num_sites,
        }
        if len(calls) == 3:
            over_all = float(np.median(times[:, 2] / times[:, 1]))
            row["methods"][method]["completing_over_all"] = over_all
    row["pass_seconds"] = float(np.median(pass_seconds))
    if "naive" in row["methods"]:
        naive = row["methods"]["naive"]["seconds"]
        for result in row["methods"].values():
            result["over_naive"] = naive / result["seconds"]
    return row


def _floor(
    model: Any, variables: Any, images: Any, labels: Any, options: Options
) -> dict[str, float]:
    """What no sampler site by site can beat: the larger of arithmetic and memory traffic.

    Arithmetic is that of one pass, at the rate of a large matmul; traffic, of a model with
    attention, the keys and values that a site attends to and the parameters once a site, at the
    rate at which as much memory as a step reads from is read.
    """
    matmul, matmul_flops = timing.large_matmul()
    rate = matmul_flops / timing.median_seconds(matmul, options.repeats)
    arithmetic = timing.count_flops(model.apply, variables, images, labels) / rate
    seconds = 0.0
    if hasattr(model, "query_blocks"):
        read, held = traffic(model, sum(x.size for x in jax.tree.leaves(variables)), len(images))
        xla_options = compiler_options("sampling", jax.default_backend())
        seconds = read / timing.bytes_per_second(held, options.repeats, xla_options)
    return {
        "seconds": max(arithmetic, seconds),
        "arithmetic_seconds": arithmetic,
        "traffic_seconds": seconds,
    }


def traffic(model: models.ImageTransformer, num_parameters: int, batch: int) -> tuple[int, int]:
    """Bytes that sampling by attention reads at least, and those that a step reads from."""
    blocks, size = model.query_blocks, jnp.dtype(model.dtype).itemsize
    key_and_value = 2 * model.num_layers * model.features * batch * size
    parameters = num_parameters * size
    read = int(blocks.seen().sum()) * key_and_value + blocks.order.size * parameters
    cells = blocks.cells.shape[1] + blocks.memory.shape[1]
    return read, cells * key_and_value + parameters


def _sampler(model: Any, method: sampling.Method, naive_sites: int) -> Callable[..., Any]:
    """A sampler of whole images, of what is not known of them, or of the first sites for naive."""

    def draw(variables: Any, key: Any, images: Any, labels: Any, known: Any = None) -> Any:
        per_site = (len(images), -1, model.values_per_site)
        completing = known is not None
        given = images if completing else jnp.zeros_like(images)
        known = known if completing else jnp.zeros(images.shape, bool)
        noise = sampling.site_noise(model, key, jnp.arange(len(images)))
        given, known = given.reshape(per_site), known.reshape(per_site)
        canvas = Canvas(noise, given, known, completing=completing)
        draw: Any = METHODS[method]
        if method == "naive":
            draw = functools.partial(draw, num_sites=naive_sites)
        return draw(model, variables, canvas, labels, jnp.ones((), noise.dtype))

    return draw


def _report(options: Options, model: Any, measured: list[dict[str, Any]]) -> None:
    layers = "layers" if hasattr(model, "num_layers") else "resnets"
    depth = f"{getattr(model, f'num_{layers}')} {layers}"
    parameters = f"{type(model).__name__}, {depth} x {model.features} features"
    environment = results.environment()
    how = f"precision {options.precision}, medians of {options.repeats}"
    table = Table(title=f"{parameters}, {environment['device']}, {how}")
    for column in (
        "image", "batch", "one pass, s", "arithmetic, s", "traffic, s", "method", "s", "images/s",
        "/ pass", "/ floor", "passes", "x naive", "completing / all", "compile, s",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in measured:
        for method, result in row["methods"].items():
            scaled = result["timed_sites"] < row["sites"]
            note = f" ({result['timed_sites']} of {row['sites']} sites, scaled)" if scaled else ""
            table.add_row(
                "x".join(map(str, row["image_shape"])),
                str(row["batch"]),
                f"{row['pass_seconds']:.4f}",
                f"{row['floor']['arithmetic_seconds']:.4f}",
                f"{row['floor']['traffic_seconds']:.4f}" if row["floor"]["traffic_seconds"] else "",
                method + note,
                f"{result['seconds']:.4f}",
                f"{result['images_per_second']:.1f}",
                f"{result['over_one_pass']:.2f}",
                f"{result['over_floor']:.2f}",
                str(result["passes"]),
                f"{result['over_naive']:.1f}" if "over_naive" in result else "",
                f"{result['completing_over_all']:.2f}" if "completing_over_all" in result else "",
                f"{result['compile_seconds']:.1f}",
            )
    Console(width=None if sys.stdout.isatty() else 220).print(table)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "model": models.to_dict(model),
        "workdir": options.workdir,
        "repeats": options.repeats,
        "precision": options.precision,
        "known_rows": options.known_rows,
        **environment,
        "rows": measured,
    }
    path = folder / "sampling.json"
    write_atomically(path, json.dumps(result, indent=2) + "\n")
    same = measured[: len(options.batch_sizes)]
    curves = {
        method: (
            [row["batch"] for row in same],
            [row["methods"][method]["images_per_second"] for row in same],
        )
        for method in options.methods
    }
    curves["one whole-image pass"] = (
        [row["batch"] for row in same],
        [row["batch"] / row["pass_seconds"] for row in same],
    )
    picture = figures.save_curves(
        curves,
        folder / "sampling.png",
        x_label="batch",
        y_label="images/s",
        title=parameters,
        log_log=True,
        markers=True,
    )
    print(f"wrote {path} and {picture}")


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
