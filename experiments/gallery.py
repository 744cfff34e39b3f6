"""Draws the shipped models for docs/gallery.md: samples, their nearest training images, and more.

python -m experiments.gallery             # of all shipped models
python -m experiments.gallery vae-digits  # of some: the others stay as they are

The images are the first that the seed draws, and the first of the test split: none is chosen.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from experiments.results_table import score
from gen_jax import figures, pretrained, sampling
from gen_jax.files import write_atomically
from gen_jax.models.shared.protocol import encoded, has_code, has_encoder, traits
from gen_jax.scripts import cli, evaluate, results, runs
from gen_jax.scripts.reconstruct import save_plane

_SHOWN = 8
_NEIGHBOURS = 3

INTRODUCTION = f"""# Gallery

The [models that load](results.md#models-that-load), as they draw; `python -m experiments.gallery`
writes this page. No image is chosen: they are the first drawn, and the first of the test split.

Has a model learned its training images by heart? Under each of the first {_SHOWN} images drawn
stand its nearest training images, by the Euclidean distance of pixels from 0 (black) to 1 (white).
And 64 images drawn have a mean distance to their nearest training images, as have 64 test images,
which no model has seen: copies would be nearer than those.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Which models are drawn, and where to."""

    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME …")] = ()
    """Shipped models; by default all."""
    output: str = str(Path(__file__).parents[1] / "docs")
    """Folder of gallery.md, and of the folder gallery/ with its pictures."""
    data_dir: str | None = None
    """Folder of the prepared TFDS sets; else $TFDS_DATA_DIR; else ~/tensorflow_datasets."""
    seed: int = 0
    """Of what is drawn."""


def main(arguments: Sequence[str]) -> None:
    """Parses, draws, and writes gallery/NAME-….png and the page."""
    options = cli.parse(Options, "python -m experiments.gallery", arguments)
    for name in options.names:
        pretrained.card(name)  # unknown ones before anything is drawn
    page = Path(options.output) / "gallery.md"
    folder = results.writable(page.parent / "gallery")
    sections = read_sections(page)
    for name in options.names or pretrained.names():
        sections[name] = section(name, folder, options)
        kept = {name: sections[name] for name in pretrained.names() if name in sections}
        write_atomically(page, "\n".join([INTRODUCTION, *kept.values()]))
        cli.say(f"{name}: drawn in {page}")


def read_sections(page: Path) -> dict[str, str]:
    """Name -> section of each model that the page has."""
    if not page.exists():
        return {}
    parts = page.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}


def section(name: str, folder: Path, options: Options) -> str:
    """The section of a model; its pictures are written."""
    card, run = pretrained.card(name), runs.open_run(name)
    model, variables, levels = run.model, run.variables, run.model.likelihood.levels
    chosen = evaluate.Options(name, data_dir=options.data_dir, split="test")
    test = runs.load_images(run, chosen).split
    train = runs.load_images(run, dataclasses.replace(chosen, split="train")).split.images
    labels = runs.labels_for(model, 64, None)
    key = cli.noise_key(options.seed)
    lines = [f"## {name}\n", f"`{card.command}`: {score(card)} on the test split.\n"]

    def show(what: str, title: str) -> Path:
        path = folder / f"{name}-{what}.png"
        lines.append(f"![{title} of {name}](gallery/{path.name})\n")
        return path

    if not has_code(model) or model.prior is not None:
        images = np.asarray(sampling.sample(model, variables, key, 64, labels=labels))
        # Classes in turn: each has a column.
        columns = traits(model).num_classes or _SHOWN
        shown = len(images) // columns * columns or len(images)
        figures.save_grid(images[:shown], levels, show("samples", "Samples"), columns)
        distances, nearest = neighbours(images, train, levels)
        strips = {"drawn": images[:_SHOWN]}
        for i, rank in enumerate(("nearest", "second", "third")[:_NEIGHBOURS]):
            strips[rank] = train[nearest[:_SHOWN, i]]
        path = show("nearest", "Images drawn, over the nearest training images,")
        figures.save_strips(strips, levels, path)
        known, _ = neighbours(test.images[:64], train, levels)
        lines.append(
            f"Mean distance to the nearest of {len(train):,} training images: "
            f"{distances[:, 0].mean():.2f} of images drawn, {known[:, 0].mean():.2f} of test "
            "images.\n"
        )
    originals = test.images[:_SHOWN]
    classes = None if test.labels is None else test.labels[:_SHOWN]
    if has_encoder(model):
        codes = encoded(run.model, run.variables, test.images, test.labels)
        means = runs.expected_images(run, codes[: 2 * _SHOWN], _some(test.labels, 2 * _SHOWN))
        strips = {
            "test image": test.images[: 2 * _SHOWN].astype(np.float64),
            "reconstruction": means,
        }
        figures.save_strips(strips, levels, show("reconstructions", "Reconstructions"))
        if model.num_latents == 2 and model.has_real_codes:
            save_plane(run, codes, 20, show("plane", "The plane of codes"))
    if has_code(model):
        return "\n".join(lines)
    known = np.arange(model.image_shape[0])[:, None, None] < model.image_shape[0] // 2
    ways = 6
    completed = sampling.complete(
        model,
        variables,
        jax.random.fold_in(key, 1),
        np.repeat(originals, ways, axis=0),
        known,
        labels=None if classes is None else np.repeat(classes, ways),
    )
    completions = np.asarray(completed).reshape(_SHOWN, ways, *originals.shape[1:])
    path = show("completions", "Test images, their upper halves and six completions each,")
    figures.save_completions(originals, known, list(completions.swapaxes(0, 1)), levels, path)
    return "\n".join(lines)


def neighbours(images: Any, train: Any, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and numbers of the nearest training images of each image, `[B, 3]`, in order."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (images, train))
    squares = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
    numbers = np.argsort(squares, axis=1, kind="stable")[:, :_NEIGHBOURS]
    nearest = np.take_along_axis(squares, numbers, axis=1)
    return np.sqrt(nearest) / (levels - 1), numbers


def _some(labels: Any, count: int) -> Any:
    return None if labels is None else labels[:count]


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
