"""Writes the table of docs/results.md from the cards of the shipped models.

python -m experiments.results_table
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from gen_jax import pretrained
from gen_jax.files import write_atomically
from gen_jax.scripts import cli

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
BEGIN = "<!-- from the cards: python -m experiments.results_table -->"
END = "<!-- end of what the cards say -->"

# Of the same data and binarization, by the papers that docs/results.md names.
PUBLISHED = {
    "gated-pixelcnn-digits": "(a histogram of each pixel: 2.42)",
    "gated-pixelcnn-mnist": "80.10 (PixelCNN 81.30)",
    "pixelcnn-mnist": "81.30",
    "row-lstm-mnist": "80.54",
    "diagonal-bilstm-mnist": "79.20",
    "vae-mnist": "86.76 (3280 epochs)",
    "iwae-mnist": "k = 5: 85.54, k = 50: 84.78 (3280 epochs)",
}
_SETS = {"binarized_mnist": "binarized MNIST", "mnist": "MNIST", "cifar10": "CIFAR-10"}


@dataclasses.dataclass(frozen=True)
class Options:
    """Where the table stands."""

    page: str = str(PAGE)
    """A page with the two comments that the table stands between."""


def main(arguments: Sequence[str]) -> None:
    """Parses, and replaces the table in the page."""
    options = cli.parse(Options, "python -m experiments.results_table", arguments)
    path = Path(options.page)
    write_atomically(path, with_table(path.read_text(encoding="utf-8"), path))
    print(f"wrote the {len(pretrained.names())} shipped models into {path}")


def with_table(text: str, path: Path = PAGE) -> str:
    """The text of the page, with the table as the cards have it. ValueError without its place."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no place for the table; accepted: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


def table() -> str:
    """One row a shipped model, in Markdown."""
    head = "| model | data | step chosen by | epochs | test | published | trained by |\n"
    lines = [row(name, pretrained.card(name)) for name in pretrained.names()]
    return head + "|---" * 7 + "|\n" + "".join(lines)


def row(name: str, card: pretrained.Card) -> str:
    """What a card says, in a line."""
    data, binarization = card.run["data"], card.run["data"]["binarization"]
    levels = f"{data['levels']} levels" if binarization == "none" else f"**{binarization}**"
    images = f"{_SETS.get(data['config']['name'], data['config']['name'])}, {levels}"
    if card.run["model"]["num_classes"] is not None:
        images += ", given the class"
    cells = (
        f"`{name}`",
        images,
        f"{card.selection.split}, {card.selection.images:,}",
        f"{card.epochs:.3g}" if card.epochs < 1000 else f"{card.epochs:,.0f}",
        score(card),
        PUBLISHED.get(name, ""),
        f"`{card.command}`",
    )
    return "| " + " | ".join(cells) + " |\n"


def score(card: pretrained.Card) -> str:
    """The test score: nats of binary images, bits/dim of others."""
    test, nats = card.test, card.run["data"]["levels"] == 2
    unit = "nats" if nats else "bits/dim"
    scale = 1.0 if nats else -test.bits_per_dim / test.nats

    def number(value: float, error: float) -> str:
        digits = 2 if nats else 3
        return f"{-value * scale:.{digits}f} ± {error * scale:.{digits}f}"

    reported = number(test.nats, test.nats_standard_error)
    text = f"**{reported} {unit}**"
    if test.measure != "-log p(x)":
        text = f"{test.measure} {reported} {unit}"
    if test.iwae_nats is not None and test.iwae_nats_standard_error is not None:
        bound = number(test.iwae_nats, test.iwae_nats_standard_error)
        text = (
            f"**{bound} {unit}** by the IWAE bound of k = {test.iwae_samples} "
            f"({test.measure} {reported})"
        )
    if test.accuracy is not None:
        text += f"; {100 * test.accuracy:.1f} % of the classes right, by Bayes' rule"
    return text


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
