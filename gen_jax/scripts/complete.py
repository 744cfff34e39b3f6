"""Complete test images of which a part is known: `gen_jax complete WORKDIR`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from gen_jax import figures, sampling
from gen_jax.scripts import cli, results


@dataclasses.dataclass(frozen=True)
class Options(cli.ImageOptions):
    """Which images, and what is known of them."""

    known: Literal["top", "left", "centre", "checkerboard"] = "top"
    """Which half (or quarter, for centre) of each image is given."""
    mask: str | None = None
    """A .npy of bool [H, W], True where known, instead of `known`."""
    num_images: int = 10
    """How many images, from the first on."""
    num_completions: int = 6
    """How many ways to complete each."""
    temperature: float = 1.0
    """1 draws from the model, 0 takes the most probable level of every site."""
    method: sampling.Method = "scan"
    """scan is the fast one; naive and fixed_point draw the same images."""
    chunk_size: int = 256
    """Images completed at once; bounds the memory."""


def main(arguments: Sequence[str]) -> None:
    """Parses, completes, and writes completions.npz and completions.png."""
    complete(cli.parse_on_images(Options, "gen_jax complete", arguments))


def complete(options: Options) -> Path:
    """The path of completions.npz: the images, what was known, and how they were completed."""
    cli.check_counts(
        num_images=options.num_images,
        num_completions=options.num_completions,
        chunk_size=options.chunk_size,
    )
    key = cli.noise_key(options.seed)
    run = cli.open_run(options.workdir, options.step)
    cli.autoregressive(run.model)
    known = _known(options, run.model.image_shape)
    folder = results.output_folder(options, run)
    source = cli.load_images(run, options)
    originals, labels = source.split.images[: options.num_images], source.split.labels
    count, ways = len(originals), options.num_completions
    chunk_size = min(options.chunk_size, count * ways)
    chunks = sampling.complete_in_chunks(
        run.model,
        run.variables,
        key,
        np.repeat(originals, ways, axis=0),
        known,
        chunk_size,
        labels=None if labels is None else np.repeat(labels[:count], ways),
        temperature=options.temperature,
        method=options.method,
    )
    number = -(-count * ways // chunk_size)
    completed = np.concatenate(list(cli.track(chunks, number, "completing")))
    completions = completed.reshape(count, ways, *originals.shape[1:])
    path = results.save_arrays(
        folder / "completions.npz",
        originals=originals,
        known=known,
        completions=completions,
        labels=None if labels is None else labels[:count],
        class_names=run.class_names,
        seed=options.seed,
        temperature=options.temperature,
        method=options.method,
        step=run.step,
    )
    cli.say(
        f"{ways} completions of {count} images, {source.name} (columns: original, known, "
        f"completions); wrote {path}"
    )
    results.picture(
        figures.save_completions,
        originals[:40],
        known,
        list(completions[:40].swapaxes(0, 1)),
        run.model.likelihood.levels,
        folder / "completions.png",
    )
    return path


def _known(options: Options, image_shape: tuple[int, int, int]) -> np.ndarray:
    """bool [H, W, 1]."""
    height, width, _ = image_shape
    row, column = np.indices((height, width))
    if options.mask is not None:
        try:
            known = np.load(options.mask, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"cannot read the mask {options.mask}: {error}") from error
        if not isinstance(known, np.ndarray):
            known.close()
            raise ValueError(
                f"the mask {options.mask} holds several arrays; a .npy of one is needed"
            )
        if known.shape != (height, width) or not np.isin(known, (0, 1)).all():
            raise ValueError(
                f"the mask {options.mask} has shape {known.shape} and dtype {known.dtype}; "
                f"bool, or 0 and 1, of shape ({height}, {width}) is needed"
            )
        known = known.astype(bool)
    elif options.known == "top":
        known = row < height // 2
    elif options.known == "left":
        known = column < width // 2
    elif options.known == "centre":
        known = (abs(2 * row - height + 1) < height / 2) & (abs(2 * column - width + 1) < width / 2)
    else:
        known = (row // 2 + column // 2) % 2 == 0
    return known[..., None]
