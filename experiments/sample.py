"""Draw images from a trained run: `python -m experiments.sample WORKDIR`."""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from experiments import cli
from gen_jax import figures, models, sampling, training


@dataclasses.dataclass(frozen=True)
class Options:
    """What to draw. The same seed draws the same images, whatever the chunk size."""

    workdir: cli.RunFolder
    """Folder of a trained run."""
    num_images: int = 64
    """How many."""
    label: int | None = None
    """Class of all images; by default all classes in turn."""
    temperature: float = 1.0
    """1 draws from the model, 0 takes the most probable level of every site."""
    method: sampling.Method = "scan"
    """scan is the fast one; naive and fixed_point draw the same images."""
    chunk_size: int = 256
    """Images drawn at once; bounds the memory."""
    seed: int = 0
    """Of the noise."""
    step: str = "best"
    """Checkpoint: best (by validation), last, or a step."""
    animate: bool = True
    """Write a GIF of the first images as they appear, site by site (autoregressive models)."""


def main(arguments: Sequence[str]) -> None:
    """Parses, draws, and writes samples.npz, samples.png and samples.gif or sample-means.png."""
    sample(cli.parse(Options, "sample", arguments))


def sample(options: Options) -> Path:
    """The PNG's path."""
    for name in ("num_images", "chunk_size"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name} is {getattr(options, name)}; it must be at least 1")
    run = cli.open_run(options.workdir, options.step)
    labels = cli.labels_for(run.model, options.num_images, options.label)
    chunk_size = min(options.chunk_size, options.num_images)
    mesh = training.make_mesh() if jax.device_count() > 1 else None
    if mesh is not None:
        chunk_size = cli.round_up(chunk_size, mesh.size)
    chunks = sampling.sample_in_chunks(
        run.model,
        run.variables,
        jax.random.key(options.seed),
        options.num_images,
        chunk_size,
        labels=None if labels is None else np.asarray(labels, np.int32),
        temperature=options.temperature,
        method=options.method,
        mesh=mesh,
    )
    start = time.perf_counter()
    number = -(-options.num_images // chunk_size)
    images = np.concatenate(list(cli.track(chunks, number, "drawing")))
    seconds = time.perf_counter() - start

    folder, levels = run.workdir.path, run.model.likelihood.levels
    if labels is None:
        np.savez_compressed(folder / "samples.npz", images=images)
    else:
        np.savez_compressed(folder / "samples.npz", images=images, labels=np.asarray(labels))
    picture = figures.save_grid(images[:400], levels, folder / "samples.png")
    print(
        f"{len(images)} images in {seconds:.1f} s, compilation included, by {options.method}; "
        f"wrote {folder / 'samples.npz'} and {picture}"
    )
    if isinstance(run.model, models.LatentModel):
        shown = np.arange(min(len(images), 400))
        codes = sampling.prior_codes(run.model, jax.random.key(options.seed), shown)
        classes = None if labels is None else np.asarray(labels, np.int32)[shown]
        means = cli.expected_images(run, codes, classes)
        print(f"wrote {figures.save_grid(means, levels, folder / 'sample-means.png')}")
    if options.animate and isinstance(run.model, models.AutoregressiveModel):
        frames, drawn = sampling.canvases(run.model, images[:16], 48)
        path = figures.save_animation(frames, drawn, levels, folder / "samples.gif")
        print(f"wrote {path}")
    return picture


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
