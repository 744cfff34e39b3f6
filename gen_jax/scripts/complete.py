"""Complete test images of which a part is known: `gen_jax complete WORKDIR`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from gen_jax import checks, figures, sampling
from gen_jax.scripts import cli, drawing, results, runs

Part: TypeAlias = Literal["top", "left", "centre", "checkerboard"]


@dataclasses.dataclass(frozen=True)
class Options(drawing.DrawOptions, runs.ImageOptions):
    """Which images, and what is known of them."""

    known: Part | None = None
    """Which half (or quarter, for centre) of each image is given; by default top."""
    mask: str | None = None
    """A .npy of bool [H, W], True where known, instead of --known."""
    num_images: int = 10
    """How many images to complete, from the first on."""
    num_completions: int = 6
    """How many completions of each image."""


def main(arguments: Sequence[str]) -> None:
    """Parses, completes, and writes completions.npz and completions.png."""
    complete(runs.parse_on_images(Options, "gen_jax complete", arguments))


def complete(options: Options) -> Path:
    """The path of completions.npz: the images, what was known, and how they were completed."""
    cli.check_counts(
        num_images=options.num_images,
        num_completions=options.num_completions,
        chunk_size=options.chunk_size,
    )
    if options.known is not None and options.mask is not None:
        raise ValueError(
            f"known is {options.known!r} and mask is {options.mask!r}; accepted: one of them"
        )
    key = cli.noise_key(options.seed)
    run = runs.open_run(options.workdir, options.step)
    runs.autoregressive(run.model)
    known = _known(options, run.model.image_shape)
    folder = results.output_folder(options, run)
    source = runs.load_images(run, options)
    originals, labels = source.split.images[: options.num_images], source.split.labels
    count, ways = len(originals), options.num_completions
    request = sampling.to_complete(
        run.model,
        run.variables,
        key,
        np.repeat(originals, ways, axis=0),
        known,
        labels=None if labels is None else np.repeat(labels[:count], ways),
        temperature=options.temperature,
    )
    drawn = drawing.draw(run.model, request, options, "completing")
    completions = drawn.images.reshape(count, ways, *originals.shape[1:])
    path = results.save_arrays(
        folder / "completions.npz",
        originals=originals,
        known=known,
        completions=completions,
        labels=None if labels is None else labels[:count],
        **drawing.record(options, run),
    )
    cli.say(
        f"{ways} completions of {count} images, {source.name} (columns: original, known, "
        f"completions); wrote {path}"
    )
    drawing.say_passes(run.model, drawn, options.method)
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
            with checks.expanded("mask", options.mask).open("rb") as stream:
                known = np.load(stream, allow_pickle=False)
        except OSError as error:
            raise checks.unreadable(f"mask {options.mask!r}", error) from error
        except Exception as error:  # of a damaged file it is of any type
            raise ValueError(
                f"mask is {options.mask!r}, which is no whole .npy; accepted: what numpy.save "
                "writes of an array of bool, or of 0 and 1"
            ) from error
        if not isinstance(known, np.ndarray):
            raise ValueError(
                f"mask is {options.mask!r}, which holds several arrays; accepted: a .npy of one"
            )
        is_number = known.dtype.kind in "biuf"
        if known.shape != (height, width) or not is_number or not np.isin(known, (0, 1)).all():
            raise ValueError(
                f"mask is {options.mask!r}, of shape {known.shape} and dtype {known.dtype}; "
                f"accepted: bool, or 0 and 1, of shape ({height}, {width})"
            )
        known = known.astype(bool)
    elif options.known is None or options.known == "top":
        known = row < height // 2
    elif options.known == "left":
        known = column < width // 2
    elif options.known == "centre":
        known = (abs(2 * row - height + 1) < height / 2) & (abs(2 * column - width + 1) < width / 2)
    else:
        known = (row // 2 + column // 2) % 2 == 0
    return known[..., None]
