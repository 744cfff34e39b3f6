"""What an auto-encoder makes of images: `python -m experiments.reconstruct WORKDIR`.

Reconstructions by the encoder and by inverting the decoder, with the error of each; interpolations
between two images in the space of codes; and, of a code of two latents, the plane of its images.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from gen_jax import data, figures, inversion, models, objectives
from gen_jax.training.workdir import write_atomically

_CHUNK = 100  # images whose codes are sought at once


@dataclasses.dataclass(frozen=True)
class Options:
    """Which images, and how the decoder is inverted."""

    workdir: cli.RunFolder
    """Folder of a trained auto-encoder."""
    split: Literal["test", "validation", "train"] = "test"
    """Where the images come from."""
    num_images: int = 100
    """How many images, from the first on; pictures show the first 16."""
    num_starts: int = 4
    """Starts of the inversion."""
    num_steps: int = 300
    """Gradient steps from each."""
    prior_weight: float = 1.0
    """Weight of log p(z) in the inversion: 1 for the mode of p(z | x), 0 for that of p(x | z)."""
    plane: int = 20
    """Images a side of the plane."""
    seed: int = 0
    """Of the inversion's starts."""
    step: str = "best"
    """Checkpoint: best (by validation), last, or a step."""
    data_dir: str | None = None
    """Folder of the prepared TFDS sets, if it is not that of the training."""


def main(arguments: Sequence[str]) -> None:
    """Parses, and writes reconstructions.png and .json, interpolations.png and plane.png."""
    reconstruct(cli.parse(Options, "reconstruct", arguments))


def reconstruct(options: Options) -> dict[str, Any]:
    """The errors as a dict, also written to WORKDIR/reconstructions-SPLIT.json."""
    cli.check_counts(num_images=options.num_images, plane=options.plane)
    run = cli.open_run(options.workdir, options.step)
    model, folder = run.model, run.workdir.path
    if not isinstance(model, models.LatentModel):
        raise ValueError(f"{type(model).__name__} has no code to reconstruct from")
    split: data.Split = getattr(run.load_data(options.data_dir), options.split)
    images = split.images[: options.num_images]
    labels = run.labels({"labels": None if split.labels is None else split.labels[: len(images)]})

    found = []
    chunks = range(0, len(images), _CHUNK)
    for start in cli.track(chunks, len(chunks), "finding codes"):
        rows = slice(start, start + _CHUNK)
        found.append(find_codes(run, images[rows], _rows(labels, rows), options))
    codes: dict[str, Any] = {
        name: jnp.concatenate([part[name] for part in found]) for name in found[0]
    }
    if isinstance(model, models.ImplicitAutoEncoder) and options.split == "train":
        indices = np.arange(len(images))
        codes["learned"] = model.apply(run.variables, indices, method="codes")
    fits = {
        name: np.asarray(
            objectives.reconstruction(model, run.variables, found, images, labels), np.float64
        )
        for name, found in codes.items()
    }
    result: dict[str, Any] = {"split": options.split, "images": len(images), "step": run.step}
    for name, fit in fits.items():
        error = float(fit.std(ddof=1)) / math.sqrt(len(fit)) if len(fit) > 1 else None
        result[name] = {"nats": float(fit.mean()), "nats_standard_error": error}
        within = "" if error is None else f" ± {error:.2f}"
        print(f"{options.split}, {name}: -log p(x | z) is {-fit.mean():.2f}{within} nats")
    path = folder / f"reconstructions-{options.split}.json"
    write_atomically(path, json.dumps(result, indent=2) + "\n")

    levels, shown = model.likelihood.levels, slice(0, 16)
    some = _rows(labels, shown)
    rows = {"original": images[shown].astype(np.float64)}
    for name, found in codes.items():
        rows[name] = cli.expected_images(run, found[shown], some)
    pictures = [figures.save_rows(rows, levels, folder / f"reconstructions-{options.split}.png")]
    if len(images) > 1:
        pictures.append(_interpolate(run, next(iter(codes.values())), images, labels))
    if model.num_latents == 2 and model.has_real_codes:
        pictures.append(_plane(run, next(iter(codes.values())), options.plane))
    for picture in (path, *pictures):
        print(f"wrote {picture}")
    return result


def _rows(labels: Any, rows: slice) -> Any:
    return None if labels is None else labels[rows]


def find_codes(run: cli.Run, images: np.ndarray, labels: Any, options: Options) -> dict[str, Any]:
    """The codes of images by each way that the model has: "encoder", "inversion"."""
    codes: dict[str, Any] = {}
    if not isinstance(run.model, models.ImplicitAutoEncoder):
        encoded = run.model.apply(run.variables, images, labels, method="encode")
        codes["encoder"] = encoded.mode() if isinstance(run.model, models.VAE) else encoded
    if run.model.has_real_codes:
        codes["inversion"] = inversion.encode_by_inversion(
            run.model,
            run.variables,
            images,
            labels,
            key=jax.random.key(options.seed),
            num_starts=options.num_starts,
            num_steps=options.num_steps,
            # The codes of a deterministic auto-encoder have no prior.
            prior_weight=0.0 if run.model.prior is None else options.prior_weight,
        ).codes
    return codes


def _interpolate(run: cli.Run, codes: Any, images: np.ndarray, labels: Any) -> Path:
    """Pairs of images, and between them the images of codes on the straight line."""
    pairs, steps = min(8, len(images) // 2), 12
    first, last = codes[: 2 * pairs : 2], codes[1 : 2 * pairs : 2]
    weight = jnp.linspace(0, 1, steps, dtype=codes.dtype)[None, :, None]
    line = (first[:, None] * (1 - weight) + last[:, None] * weight).reshape(-1, codes.shape[-1])
    # A class belongs to the whole line: that of its first image.
    chosen = None if labels is None else np.repeat(labels[: 2 * pairs : 2], steps)
    between = cli.expected_images(run, line, chosen).reshape(pairs, steps, *images.shape[1:])
    rows = np.concatenate(
        [images[: 2 * pairs : 2, None], between, images[1 : 2 * pairs : 2, None]], axis=1
    )
    path = run.workdir.path / "interpolations.png"
    flat = rows.reshape(-1, *images.shape[1:])
    return figures.save_grid(flat, run.model.likelihood.levels, path, columns=steps + 2)


def _plane(run: cli.Run, codes: Any, side: int) -> Path:
    """Images of a code's two latents, the first to the right and the second up.

    They are at the quantiles of N(0, 1), or over the range of `codes` where there is no prior.
    """
    if run.model.prior is not None:
        quantiles = (jnp.arange(side, dtype=codes.dtype) + 0.5) / side
        axes = [jax.scipy.special.ndtri(quantiles)] * 2
    else:
        low, high = jnp.quantile(codes, jnp.asarray([0.02, 0.98], codes.dtype), axis=0)
        axes = [jnp.linspace(low[i], high[i], side, dtype=codes.dtype) for i in range(2)]
    down, right = jnp.meshgrid(axes[1][::-1], axes[0], indexing="ij")
    grid = jnp.stack([right, down], axis=-1).reshape(-1, 2)
    labels = None if run.model.num_classes is None else np.zeros(len(grid), np.int32)
    images = cli.expected_images(run, grid, labels)
    path = run.workdir.path / "plane.png"
    return figures.save_grid(images, run.model.likelihood.levels, path, columns=side)


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
