"""Draw images from a trained run: `gen_jax sample WORKDIR`."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gen_jax import figures, sampling
from gen_jax.models.shared.protocol import has_code
from gen_jax.scripts import cli, drawing, results, runs


@dataclasses.dataclass(frozen=True)
class Options(drawing.DrawOptions):
    """What to draw. The same seed draws the same images, whatever the chunk size."""

    num_images: int = 64
    """How many images to draw."""
    label: str | None = None
    """Class of all images, by number or name; by default all classes in turn."""
    animate: cli.UnlessOff = True
    """Write a GIF of the first images as they appear, site by site (autoregressive models)."""


def main(arguments: Sequence[str]) -> None:
    """Parses, draws, and writes samples.npz, samples.png and samples.gif or sample-means.png."""
    sample(cli.parse(Options, "gen_jax sample", arguments))


def sample(options: Options) -> Path:
    """The path of samples.npz: the images, and what they were drawn with."""
    cli.check_counts(num_images=options.num_images, chunk_size=options.chunk_size)
    key = cli.noise_key(options.seed)
    run = runs.open_run(options.workdir, options.step)
    names, levels = run.class_names, run.model.likelihood.levels
    labels = runs.labels_for(run.model, options.num_images, options.label, names)
    folder = results.output_folder(options, run)
    count = options.num_images
    request = sampling.to_sample(
        run.model, run.variables, key, count, labels=labels, temperature=options.temperature
    )
    start = time.perf_counter()
    drawn = drawing.draw(run.model, request, options, "drawing")
    images = drawn.images
    seconds = time.perf_counter() - start
    path = results.save_arrays(
        folder / "samples.npz",
        images=images,
        labels=labels,
        **drawing.record(options, run),
    )
    cli.say(
        f"{len(images)} images in {seconds:.1f} s, compilation included, by {options.method}; "
        f"wrote {path}"
    )
    drawing.say_passes(run.model, drawn, options.method)

    shown = slice(0, 400)
    grid = runs.class_columns(names if options.label is None else None, len(images))
    results.picture(figures.save_grid, images[shown], levels, folder / "samples.png", **grid)
    if has_code(run.model):
        classes, ids = None if labels is None else labels[shown], np.arange(len(images[shown]))
        codes = sampling.prior_codes(run.model, run.variables, key, ids, classes)
        means = runs.expected_images(run, codes, classes)
        results.picture(figures.save_grid, means, levels, folder / "sample-means.png", **grid)
    elif options.animate:
        order = sampling.generation_order(run.model)
        frames, seen = figures.frames(images[:16], order, 48)
        results.picture(figures.save_animation, frames, seen, levels, folder / "samples.gif")
    return path
