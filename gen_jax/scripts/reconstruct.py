"""What an auto-encoder makes of images: `gen_jax reconstruct WORKDIR`.

Reconstructions by the encoder and by inverting the decoder, with the error of each; interpolations
between two images in the space of codes; and, of a code of two latents, the plane of its images.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import figures, inversion, objectives
from gen_jax.models.shared.protocol import (
    CodeModel,
    encoded,
    has_encoder,
    takes_labels,
    with_code,
)
from gen_jax.precision import Precision, matmul_precision
from gen_jax.scripts import cli, results, runs
from gen_jax.typing import Array, Json, Labels, Variables

_CHUNK = 100  # images whose codes are sought at once
_STARTS, _STEPS, _SIDE = 4, 300, 20


@dataclasses.dataclass(frozen=True)
class Options(runs.ImageOptions):
    """Which images, and how the decoder is inverted."""

    num_images: int = 100
    """How many images, from the first on; pictures show the first 16."""
    num_starts: int | None = None
    """Starts of the search for a code of real numbers; by default 4."""
    num_steps: int | None = None
    """Steps of Adam from each start; by default 300."""
    prior_weight: float | None = None
    """Weight of log p(z) in the inversion, where codes have a prior; by default 1.
    1 is for the mode of p(z | x), 0 for that of p(x | z)."""
    precision: Precision = "highest"
    """How exactly a GPU or TPU multiplies matrices; on a CPU both are the same.
    default: as JAX does, which is faster. highest: with all digits of float32."""
    plane: int | None = None
    """Images on each side of the picture of the plane, for two real latents; by default 20."""


def main(arguments: Sequence[str]) -> None:
    """Parses, and writes reconstructions-SPLIT.png and .json, interpolations.png and plane.png."""
    reconstruct(runs.parse_on_images(Options, "gen_jax reconstruct", arguments))


def reconstruct(options: Options) -> Json:
    """The errors as a dict, also written to reconstructions-SPLIT.json."""
    with matmul_precision(options.precision):
        return _reconstruct(options)


def _reconstruct(options: Options) -> Json:
    counts = ("num_images", "num_starts", "num_steps", "plane")
    chosen = {name: getattr(options, name) for name in counts}
    cli.check_counts(**{name: value for name, value in chosen.items() if value is not None})
    key = cli.noise_key(options.seed)
    run = runs.open_run(options.workdir, options.step)
    model = with_code(run.model)
    check(options, model)
    folder = results.output_folder(options, run)
    source = runs.load_images(run, options)
    name, images = source.name, source.split.images[: options.num_images]
    labels = _some(source.split.labels, slice(0, len(images)))
    file_name = results.name_for(folder, "reconstructions", source)

    found, errors = [], []
    chunks = range(0, len(images), _CHUNK)
    for start in cli.track(chunks, len(chunks), "finding codes"):
        chunk = slice(start, start + _CHUNK)
        some = _some(labels, chunk)
        codes = find_codes(
            model, run.variables, images[chunk], some, options, jax.random.fold_in(key, start)
        )
        if hasattr(model, "codes") and name == "train":
            indices = np.arange(start, start + len(images[chunk]))
            codes["learned"] = model.apply(run.variables, indices, method="codes")
        found.append(codes)
        errors.append(
            {
                way: objectives.reconstruction(model, run.variables, code, images[chunk], some)
                for way, code in codes.items()
            }
        )
    codes: dict[str, Array] = {
        way: jnp.concatenate([part[way] for part in found]) for way in found[0]
    }
    fits = {
        way: np.concatenate([np.asarray(part[way], np.float64) for part in errors]) for way in codes
    }
    result: Json = {
        "data": source.dataset,
        "split": name,
        "fingerprint": source.fingerprint,
        "images": len(images),
        "precision": options.precision,
        "search": {
            "seed": options.seed,
            "num_starts": options.num_starts,
            "num_steps": options.num_steps,
            "prior_weight": _prior_weight(model, options),
        },
        "step": run.step,
    }
    for way, fit in fits.items():
        error = float(fit.std(ddof=1)) / math.sqrt(len(fit)) if len(fit) > 1 else None
        result[way] = {"nats": float(fit.mean()), "nats_standard_error": error}
    path = results.save_json(folder / f"reconstructions-{file_name}.json", result)
    for way in fits:
        nats, error = result[way].values()
        within = "" if error is None else f" ± {error:.2f}"
        cli.say(f"{name}, {way}: -log p(x | z) is {-nats:.2f}{within} nats")
    cli.say(f"wrote {path}")

    levels, shown = model.likelihood.levels, slice(0, 16)
    strips = {"original": images[shown].astype(np.float64)}
    for way, code in codes.items():
        strips[way] = runs.expected_images(run, code[shown], _some(labels, shown))
    results.picture(
        figures.save_strips, strips, levels, folder / f"reconstructions-{file_name}.png"
    )
    shown_codes = next(iter(codes.values()))
    if len(images) > 1:
        results.picture(_interpolate, run, shown_codes, images, labels, folder)
    if _has_plane(model):
        side = options.plane or _SIDE
        results.picture(save_plane, run, shown_codes, side, folder / "plane.png")
    return result


def check(options: Options, model: CodeModel) -> None:
    """ValueError for options of what is not done with such codes."""
    unread: list[str] = [] if _has_plane(model) else ["plane"]
    if not model.has_real_codes:
        unread += ["num_starts", "num_steps", "prior_weight"]
    elif model.prior is None:
        unread += ["prior_weight"]
    for name in unread:
        if getattr(options, name) is not None:
            kind = "real numbers" if model.has_real_codes else "bits"
            prior = "a" if model.prior is not None else "no"
            raise ValueError(
                f"{name} is {getattr(options, name)}; accepted, by this {type(model).__name__}, "
                f"whose codes are {model.num_latents} {kind} with {prior} prior: None"
            )


def _has_plane(model: CodeModel) -> bool:
    return model.num_latents == 2 and model.has_real_codes


def _some(labels: Labels | None, which: slice) -> Labels | None:
    return None if labels is None else labels[which]


def find_codes(
    model: CodeModel,
    variables: Variables,
    images: np.ndarray,
    labels: Labels | None,
    options: Options,
    key: jax.Array,
) -> dict[str, Array]:
    """The codes of images by each way that the model has: "encoder", "inversion"."""
    codes: dict[str, Array] = {}
    if has_encoder(model):
        codes["encoder"] = encoded(model, variables, images, labels)
    if model.has_real_codes:
        codes["inversion"] = inversion.encode_by_inversion(
            model,
            variables,
            images,
            labels,
            key=key,
            num_starts=options.num_starts or _STARTS,
            num_steps=options.num_steps or _STEPS,
            prior_weight=_prior_weight(model, options),
        ).codes
    return codes


def _prior_weight(model: CodeModel, options: Options) -> float:
    """The codes of a deterministic auto-encoder have no prior."""
    if options.prior_weight is not None:
        return options.prior_weight
    return 0.0 if model.prior is None else 1.0


def _interpolate(
    run: runs.Run, codes: Array, images: np.ndarray, labels: Labels | None, folder: Path
) -> Path:
    """Pairs of images, and between them the images of codes on the straight line."""
    pairs, steps = min(8, len(images) // 2), 12
    left, right = codes[: 2 * pairs : 2], codes[1 : 2 * pairs : 2]
    weight = jnp.linspace(0, 1, steps, dtype=codes.dtype)[None, :, None]
    line = (left[:, None] * (1 - weight) + right[:, None] * weight).reshape(-1, codes.shape[-1])
    # A class belongs to the whole line: that of its first image.
    chosen = None if labels is None else np.repeat(labels[: 2 * pairs : 2], steps)
    between = runs.expected_images(run, line, chosen).reshape(pairs, steps, *images.shape[1:])
    lines = np.concatenate(
        [images[: 2 * pairs : 2, None], between, images[1 : 2 * pairs : 2, None]], axis=1
    )
    path = folder / "interpolations.png"
    flat = lines.reshape(-1, *images.shape[1:])
    return figures.save_grid(flat, run.model.likelihood.levels, path, columns=steps + 2)


def save_plane(run: runs.Run, codes: Array, side: int, path: Path) -> Path:
    """Images of a code's two latents, the first to the right and the second up.

    They are at the quantiles of N(0, 1), or over the range of `codes` where there is no prior.
    """
    if with_code(run.model).prior is not None:
        quantiles = (jnp.arange(side, dtype=codes.dtype) + 0.5) / side
        axes = [jax.scipy.special.ndtri(quantiles)] * 2
    else:
        low, high = jnp.quantile(codes, jnp.asarray([0.02, 0.98], codes.dtype), axis=0)
        axes = [jnp.linspace(low[i], high[i], side, dtype=codes.dtype) for i in range(2)]
    down, right = jnp.meshgrid(axes[1][::-1], axes[0], indexing="ij")
    grid = jnp.stack([right, down], axis=-1).reshape(-1, 2)
    labels = np.zeros(len(grid), np.int32) if takes_labels(run.model) else None
    images = runs.expected_images(run, grid, labels)
    return figures.save_grid(images, run.model.likelihood.levels, path, columns=side)
