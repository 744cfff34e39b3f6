"""What an auto-encoder makes of images: `gen_jax reconstruct WORKDIR`.

Reconstructions by the encoder and by inverting the decoder, with the error of each; interpolations
between two images in the space of codes; and, of a code of two latents, the plane of its images.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import figures, inversion, objectives
from gen_jax.models.shared.protocol import has_code, has_posterior
from gen_jax.scripts import cli

_CHUNK = 100  # images whose codes are sought at once


@dataclasses.dataclass(frozen=True)
class Options(cli.ImageOptions):
    """Which images, and how the decoder is inverted."""

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


def main(arguments: Sequence[str]) -> None:
    """Parses, and writes reconstructions-SPLIT.png and .json, interpolations.png and plane.png."""
    reconstruct(cli.parse_on_images(Options, "gen_jax reconstruct", arguments))


def reconstruct(options: Options) -> dict[str, Any]:
    """The errors as a dict, also written to reconstructions-SPLIT.json."""
    cli.check_counts(num_images=options.num_images, plane=options.plane)
    key = cli.noise_key(options.seed)
    run = cli.open_run(options.workdir, options.step)
    model = run.model
    if not has_code(model):
        raise ValueError(f"{type(model).__name__} has no code to reconstruct from")
    folder = cli.output_folder(options, run)
    source = cli.load_images(run, options)
    name, images = source.name, source.split.images[: options.num_images]
    labels = _rows(source.split.labels, slice(0, len(images)))

    found, errors = [], []
    chunks = range(0, len(images), _CHUNK)
    for start in cli.track(chunks, len(chunks), "finding codes"):
        rows = slice(start, start + _CHUNK)
        some = _rows(labels, rows)
        codes = find_codes(run, images[rows], some, options, jax.random.fold_in(key, start))
        if hasattr(model, "codes") and name == "train":
            indices = np.arange(start, start + len(images[rows]))
            codes["learned"] = model.apply(run.variables, indices, method="codes")
        found.append(codes)
        errors.append(
            {
                way: objectives.reconstruction(model, run.variables, code, images[rows], some)
                for way, code in codes.items()
            }
        )
    codes: dict[str, Any] = {
        way: jnp.concatenate([part[way] for part in found]) for way in found[0]
    }
    fits = {
        way: np.concatenate([np.asarray(part[way], np.float64) for part in errors]) for way in codes
    }
    result: dict[str, Any] = {"split": name, "images": len(images), "step": run.step}
    for way, fit in fits.items():
        error = float(fit.std(ddof=1)) / math.sqrt(len(fit)) if len(fit) > 1 else None
        result[way] = {"nats": float(fit.mean()), "nats_standard_error": error}
    path = cli.save_json(folder / f"reconstructions-{name}.json", result)
    for way in fits:
        nats, error = result[way].values()
        within = "" if error is None else f" ± {error:.2f}"
        cli.say(f"{name}, {way}: -log p(x | z) is {-nats:.2f}{within} nats")
    cli.say(f"wrote {path}")

    levels, shown = model.likelihood.levels, slice(0, 16)
    rows = {"original": images[shown].astype(np.float64)}
    for way, code in codes.items():
        rows[way] = cli.expected_images(run, code[shown], _rows(labels, shown))
    cli.picture(figures.save_rows, rows, levels, folder / f"reconstructions-{name}.png")
    first = next(iter(codes.values()))
    if len(images) > 1:
        cli.picture(_interpolate, run, first, images, labels, folder)
    if model.num_latents == 2 and model.has_real_codes:
        cli.picture(save_plane, run, first, options.plane, folder / "plane.png")
    return result


def _rows(labels: Any, rows: slice) -> Any:
    return None if labels is None else labels[rows]


def find_codes(
    run: cli.Run, images: np.ndarray, labels: Any, options: Options, key: jax.Array
) -> dict[str, Any]:
    """The codes of images by each way that the model has: "encoder", "inversion"."""
    codes: dict[str, Any] = {}
    if hasattr(run.model, "encode"):
        encoded = run.model.apply(run.variables, images, labels, method="encode")
        codes["encoder"] = encoded.mode() if has_posterior(run.model) else encoded
    if run.model.has_real_codes:
        codes["inversion"] = inversion.encode_by_inversion(
            run.model,
            run.variables,
            images,
            labels,
            key=key,
            num_starts=options.num_starts,
            num_steps=options.num_steps,
            # The codes of a deterministic auto-encoder have no prior.
            prior_weight=0.0 if run.model.prior is None else options.prior_weight,
        ).codes
    return codes


def _interpolate(run: cli.Run, codes: Any, images: np.ndarray, labels: Any, folder: Path) -> Path:
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
    path = folder / "interpolations.png"
    flat = rows.reshape(-1, *images.shape[1:])
    return figures.save_grid(flat, run.model.likelihood.levels, path, columns=steps + 2)


def save_plane(run: cli.Run, codes: Any, side: int, path: Path) -> Path:
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
    return figures.save_grid(images, run.model.likelihood.levels, path, columns=side)
