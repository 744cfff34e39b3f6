"""Complete test images of which a part is known: `python -m experiments.complete WORKDIR`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from experiments import cli
from gen_jax import data, figures, sampling


@dataclasses.dataclass(frozen=True)
class Options:
    """Which images, and what is known of them."""

    workdir: cli.RunFolder
    """Folder of a trained run."""
    known: Literal["top", "left", "centre", "checkerboard"] = "top"
    """Which half (or quarter, for centre) of each image is given."""
    mask: str | None = None
    """A .npy of bool [H, W], True where known, instead of `known`."""
    split: Literal["test", "validation", "train"] = "test"
    """Where the images come from."""
    num_images: int = 10
    """How many images, from the first on."""
    num_completions: int = 6
    """How many ways to complete each."""
    temperature: float = 1.0
    """1 draws from the model, 0 takes the most probable level of every site."""
    method: sampling.Method = "scan"
    """scan is the fast one; naive and fixed_point draw the same images."""
    seed: int = 0
    """Of the noise."""
    step: str = "best"
    """Checkpoint: best (by validation), last, or a step."""
    data_dir: str | None = None
    """Folder of the prepared TFDS sets, if it is not that of the training."""


def main(arguments: Sequence[str]) -> None:
    """Parses, completes, and writes completions.png and completions.npz."""
    complete(cli.parse(Options, "complete", arguments))


def complete(options: Options) -> Path:
    """The PNG's path."""
    for name in ("num_images", "num_completions"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name} is {getattr(options, name)}; it must be at least 1")
    run = cli.open_run(options.workdir, options.step)
    cli.autoregressive(run.model)
    split: data.Split = getattr(run.load_data(options.data_dir), options.split)
    known = _known(options, run.model.image_shape)
    originals = split.images[: options.num_images]
    count, ways = len(originals), options.num_completions
    # One batch of all completions of all images.
    labels = None
    if run.model.num_classes is not None and split.labels is not None:
        labels = np.repeat(split.labels[:count], ways)
    completed = sampling.complete(
        run.model,
        run.variables,
        jax.random.key(options.seed),
        np.repeat(originals, ways, axis=0),
        known,
        labels=labels,
        temperature=options.temperature,
        method=options.method,
    )
    completions = np.asarray(completed).reshape(count, ways, *originals.shape[1:])
    folder = run.workdir.path
    np.savez_compressed(
        folder / "completions.npz", originals=originals, known=known, completions=completions
    )
    picture = figures.save_completions(
        originals,
        known,
        list(completions.swapaxes(0, 1)),
        run.model.likelihood.levels,
        folder / "completions.png",
    )
    print(
        f"{ways} completions of {count} {options.split} images (columns: original, known, "
        f"completions); wrote {folder / 'completions.npz'} and {picture}"
    )
    return picture


def _known(options: Options, image_shape: tuple[int, int, int]) -> np.ndarray:
    """bool [H, W, 1]."""
    height, width, _ = image_shape
    row, column = np.indices((height, width))
    if options.mask is not None:
        try:
            known = np.load(options.mask)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"cannot read the mask {options.mask}: {error}") from error
        if known.shape != (height, width) or known.dtype != bool:
            raise ValueError(
                f"the mask {options.mask} has shape {known.shape} and dtype {known.dtype}; "
                f"bool of shape ({height}, {width}) is needed"
            )
    elif options.known == "top":
        known = row < height // 2
    elif options.known == "left":
        known = column < width // 2
    elif options.known == "centre":
        known = (abs(2 * row - height + 1) < height / 2) & (abs(2 * column - width + 1) < width / 2)
    else:
        known = (row // 2 + column // 2) % 2 == 0
    return known[..., None]


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
