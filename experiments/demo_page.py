"""Builds the page where one draws and a model goes on, and opens it.

python -m experiments.demo_page                       # in docs/demo, where its sources are
python -m experiments.demo_page --output page --no-open

The page is docs/demo/index.html and what lies beside it; this adds models.js, the weights. It asks
nothing of anybody once it is loaded, so it may be opened from a disk.
"""

import base64
import dataclasses
import json
import shutil
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from experiments.results_table import score
from gen_jax import models, pretrained
from gen_jax.files import write_atomically
from gen_jax.models.shared.protocol import Model
from gen_jax.pretrained import shipped
from gen_jax.scripts import cli, results

SOURCES = Path(__file__).parents[1] / "docs" / "demo"
FILES = ("index.html", "page.css", "page.js", "sampler.js")
_TITLE = "<title>Draw, and a model goes on · gen_jax</title>"  # of the page, by which it is known
_KINDS = ("GatedPixelCNN", "RowLSTM")  # those of docs/demo/sampler.js
_TILE = 16  # outputs that its matmul computes at once


@dataclasses.dataclass(frozen=True)
class Options:
    """What the page has, and where it is written."""

    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME …")] = ()
    """Shipped models; by default all that the page can run."""
    output: str = str(SOURCES)
    """Folder of the page."""
    overwrite: bool = False
    """Whether files there of the same names, which are not of this page, are replaced."""
    open: bool = True
    """Whether it is opened in a browser."""


def main(arguments: Sequence[str]) -> None:
    """Parses, writes the page, and opens it."""
    options = cli.parse(Options, "python -m experiments.demo_page", arguments)
    text = models_script(options.names or runnable_names())
    folder = results.writable(Path(options.output))
    if not folder.samefile(SOURCES):
        if not options.overwrite:
            _refuse_others(folder)
        for name in FILES:
            shutil.copyfile(SOURCES / name, folder / name)
    write_atomically(folder / "models.js", text)
    page = folder / "index.html"
    size = sum((folder / name).stat().st_size for name in (*FILES, "models.js"))
    cli.say(f"{page}: {size / 1e6:.2f} MB with its models")
    if options.open:
        webbrowser.open(page.resolve().as_uri())


def _refuse_others(folder: Path) -> None:
    """ValueError if files there would be replaced, and an index.html does not say they are ours."""
    there = [name for name in (*FILES, "models.js") if (folder / name).exists()]
    index = folder / "index.html"
    if there and not (index.is_file() and _TITLE in index.read_text("utf-8", "replace")):
        raise ValueError(
            f"{folder / there[0]} is there; accepted: another --output, or --overwrite"
        )


def runnable_names() -> list[str]:
    """The shipped models that the page can run."""
    return [
        name
        for name in pretrained.names()
        if _hindrance(models.from_dict(pretrained.card(name).run["model"])) is None
    ]


def models_script(names: Sequence[str]) -> str:
    """The text of models.js: of each model what the page says of it, and its safetensors file.

    ValueError for a name that is unknown, and for a model that the page cannot run.
    """
    entries = []
    for name in names:
        model, _ = pretrained.load(name)  # damaged files too are refused here
        hindrance = _hindrance(model)
        if hindrance is not None:
            raise ValueError(f"{name}: {hindrance}")
        card, weights = pretrained.card(name), shipped.path_of(name).with_suffix(".safetensors")
        entry = {
            "name": name,
            "model": card.run["model"],
            "about": f"{score(card).replace('*', '')} on the test split.",
            "weights": base64.b64encode(weights.read_bytes()).decode(),
        }
        entries.append(entry)
    return f"const MODELS = {json.dumps(entries, indent=1)};\n"


def _hindrance(model: Model) -> str | None:
    """Why the page cannot run a model, if it cannot."""
    asked = {
        "model": (type(model).__name__, _KINDS),
        "image_shape": (model.image_shape, ((28, 28, 1),)),
        "likelihood": (type(model.likelihood).__name__, ("Bernoulli",)),
        "num_classes": (getattr(model, "num_classes", None), (None,)),
    }
    for field, (value, accepted) in asked.items():
        if value not in accepted:
            return f"{field} is {value}; accepted, by the page: {', '.join(map(str, accepted))}"
    for field in ("features", "head_features"):
        value = getattr(model, field) or 0
        if value % _TILE:
            return f"{field} is {value}; accepted, by the page: multiples of {_TILE}"
    return None


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
