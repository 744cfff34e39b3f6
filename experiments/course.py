"""Runs the chapters of docs/course/: Markdown whose blocks of Python are the cells of a notebook.

mkdocs calls `on_page_markdown` (see mkdocs.yml), so that `make docs` executes each chapter and puts
beneath a cell what it printed and drew. A cell is shown as in a notebook: what it prints, its last
line if that is a value, and the figures of pyplot.
"""

import ast
import contextlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt

CHAPTERS = tuple(sorted((Path(__file__).parents[1] / "docs" / "course").glob("[0-9]*.md")))

_CELL = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


class Executed(NamedTuple):
    """A chapter that was run."""

    markdown: str
    """Its text, with the output of each cell beneath it."""
    pictures: dict[str, bytes]
    """File name -> PNG of each picture in it."""
    variables: dict[str, Any]
    """The values of its names at the end."""


def run(chapter: Path, parameters: Mapping[str, Any] | None = None) -> Executed:
    """Executes the cells of a chapter in order; an error in one is raised, with its line.

    `parameters` are set after the first cell, where a chapter names how much it computes.
    ValueError for one that it does not have.
    """
    text = chapter.read_text(encoding="utf-8")
    variables: dict[str, Any] = {"__name__": chapter.stem}
    parts, pictures, end = [], {}, 0
    plt.switch_backend("agg")
    for number, cell in enumerate(_CELL.finditer(text)):
        printed, figures = _execute(cell, chapter, variables)
        if number == 0:
            unknown = set(parameters or {}) - set(variables)
            if unknown:
                raise ValueError(f"parameters are {sorted(unknown)}; accepted: names of cell one")
            variables.update(parameters or {})
        parts.append(text[end : cell.end()])
        if printed.strip():
            parts.append(f"\n```text\n{printed.rstrip()}\n```\n")
        for figure in figures:
            name = f"{chapter.stem}-{len(pictures) + 1}.png"
            pictures[name] = figure
            parts.append(f"\n![What the code above draws]({name})\n")
        end = cell.end()
    return Executed("".join([*parts, text[end:]]), pictures, variables)


def _execute(
    cell: re.Match[str], chapter: Path, variables: dict[str, Any]
) -> tuple[str, list[bytes]]:
    """What a cell prints, and the PNGs that it shows."""
    tree = ast.parse(cell[1], str(chapter))
    ast.increment_lineno(tree, cell.string.count("\n", 0, cell.start(1)))
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, str(chapter), "exec"), variables)
        value = None if last is None else eval(compile(last, str(chapter), "eval"), variables)
    shown = [] if value is None else [value]
    if shown and not hasattr(value, "savefig"):
        print(repr(shown.pop()), file=printed)
    shown += [plt.figure(number) for number in plt.get_fignums()]
    plt.close("all")
    return printed.getvalue(), [_png(figure) for figure in shown]


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """mkdocs' hook: a chapter's page is the chapter executed, and its pictures are files."""
    path = Path(page.file.abs_src_path)
    if path not in CHAPTERS:
        return markdown
    executed = run(path)
    for name, content in executed.pictures.items():
        uri = f"course/{name}"
        files.append(type(page.file).generated(config, uri, content=content))
    return executed.markdown
