"""What `experiments.benchmarks.accelerator` measured, in Markdown; also the table of the docs.

python -m experiments.benchmarks.accelerator_table [--measured docs/accelerators.json]
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gen_jax.files import write_atomically
from gen_jax.scripts import cli

DOCS = Path(__file__).parents[2] / "docs"
BEGIN = "<!-- from docs/accelerators.json: python -m experiments.benchmarks.accelerator_table -->"
END = "<!-- end of what was measured -->"

_OURS = ("one pass", "scan", "block_fixed_point")


@dataclasses.dataclass(frozen=True)
class Options:
    """Which figures, and where their table stands."""

    measured: str = str(DOCS / "accelerators.json")
    """An accelerator.json."""
    page: str = str(DOCS / "accelerators.md")
    """A page with the two comments that the table stands between."""


def main(arguments: Sequence[str]) -> None:
    """Parses, and replaces the table in the page."""
    script = "python -m experiments.benchmarks.accelerator_table"
    options = cli.parse(Options, script, arguments)
    page, result = Path(options.page), json.loads(Path(options.measured).read_text("utf-8"))
    write_atomically(page, with_table(page.read_text("utf-8"), result))
    print(f"wrote {len(result['figures'])} figures into {page}")


def with_table(page: str, result: dict[str, Any]) -> str:
    """The text of the page, with the table of the result. ValueError without its place."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no place for the table; accepted: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{markdown(result)}\n{END}{after}"


def line(figure: dict[str, Any]) -> str:
    """One figure, as it is printed when it comes."""
    text = f"{figure['model']}, batch {figure['batch']}, {figure['method']}: "
    if "failed" in figure:
        return text + f"failed: {figure['failed']}"
    text += f"{_time(figure['seconds'])}, {_count(figure['images_per_second'])} images/s"
    if "tflops" in figure:
        text += f", {figure['tflops']:.3g} TFLOP/s"
    if "share_of_matmul" in figure:
        text += f", {figure['share_of_matmul']:.0%} of a large matmul"
    if figure.get("passes", 1) > 1:
        text += f", {figure['passes']} passes"
    if "compile_seconds" in figure:
        text += f" (compiled in {figure['compile_seconds']:.1f} s)"
    return text


def markdown(result: dict[str, Any]) -> str:
    """Device and versions, a table of sampling, one of training, and what failed."""
    figures = [figure for figure in result["figures"] if "failed" not in figure]
    sampling = [figure for figure in figures if figure["kind"] == "sampling"]
    training = [figure for figure in figures if figure["kind"] == "training"]
    parts = [_about(result)]
    if sampling:
        parts.append(_sampling(sampling))
    if training:
        parts.append(_training(training))
    if failed := [line(figure) for figure in result["figures"] if "failed" in figure]:
        parts.append("\n".join(f"- {text}" for text in failed) + "\n")
    return "\n".join(parts)


def _about(result: dict[str, Any]) -> str:
    names = ("gen_jax", "jax", "flax", "python")
    known = [f"{name} {result[name]}" for name in names if name in result]
    torch = {x["torch"] for x in result["figures"] if "torch" in x}
    versions = ", ".join([*known, *(f"PyTorch {version}" for version in torch)])
    text = f"{result['device']}, {versions}, precision {result['precision']}"
    if "matmul_tflops" in result:
        text += f"; a large matmul: {result['matmul_tflops']:.3g} TFLOP/s"
    text += f". Medians of {result['repeats']}."
    return f"{text} {result['note']}\n" if "note" in result else f"{text}\n"


def _sampling(figures: list[dict[str, Any]]) -> str:
    """A row a model and batch: ours by method, and whatever else was timed at that batch."""
    cases: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for figure in figures:
        cases.setdefault((figure["model"], figure["batch"]), {})[figure["method"]] = figure
    order = list(dict.fromkeys(name for name, _ in cases))
    table = []
    for (name, batch), by in sorted(cases.items(), key=lambda x: (order.index(x[0][0]), x[0][1])):
        scan, blocks = by.get("scan"), by.get("block_fixed_point")
        others = [method for method in by if method not in _OURS]
        image = next(iter(by.values()))["image"]
        table.append(
            (
                name,
                "×".join(map(str, image)),
                _count(batch),
                _time(by["one pass"]["seconds"]) if "one pass" in by else "",
                f"**{_time(scan['seconds'])}**" if scan else "",
                _count(scan["images_per_second"]) if scan else "",
                f"{_time(blocks['seconds'])} ({blocks['passes']})" if blocks else "",
                "<br>".join(_beside(by[method], scan) for method in others),
                _compiled(by[method] for method in _OURS if method in by),
            )
        )
    heads = (
        "model",
        "image",
        "batch",
        "one pass",
        "scan",
        "images/s",
        "block_fixed_point (passes)",
    )
    return _table((*heads, "beside it (over the scan)", "compiled in"), table)


def _beside(figure: dict[str, Any], scan: dict[str, Any] | None) -> str:
    text = f"{figure['method']}: {_time(figure['seconds'])}"
    return text if scan is None else f"{text} ({_count(figure['seconds'] / scan['seconds'])} ×)"


def _compiled(figures: Iterable[dict[str, Any]]) -> str:
    seconds = [x["compile_seconds"] for x in figures if "compile_seconds" in x]
    return f"{max(seconds):.1f} s" if seconds else ""


def _training(figures: list[dict[str, Any]]) -> str:
    table = [
        (
            x["model"],
            "×".join(map(str, x["image"])),
            _count(x["batch"]),
            _time(x["seconds"]),
            _count(x["images_per_second"]),
            f"{x['tflops']:.3g}" if "tflops" in x else "",
            f"{x['share_of_matmul']:.0%}" if "share_of_matmul" in x else "",
            _compiled([x]),
        )
        for x in figures
    ]
    heads = ("training step", "image", "batch", "step", "images/s", "TFLOP/s", "of a matmul's")
    return _table((*heads, "compiled in"), table)


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """In Markdown, without columns of which nothing is known."""
    lines = list(lines)
    kept = [n for n in range(len(heads)) if any(line[n] for line in lines)]
    lines = [[line[n] for n in kept] for line in (heads, ["---"] * len(heads), *lines)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
