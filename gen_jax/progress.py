"""Progress bars: on a terminal, and in a notebook."""

import io
import time

from rich.console import Console
from rich.progress import Progress, ProgressColumn

_REFRESH_SECONDS = 0.1


def progress_bar(*columns: ProgressColumn, console: Console, transient: bool = False) -> Progress:
    """A bar where somebody sees it: on a terminal or in a notebook. Elsewhere it is silent.

    `transient`: it goes when it stops.
    """
    if console.is_jupyter:
        return _NotebookProgress(*columns, console=console, transient=transient)
    disabled = not console.is_terminal
    return Progress(*columns, console=console, transient=transient, disable=disabled)


class _NotebookProgress(Progress):
    """A line under the cell that is shown again as it changes: a notebook is no terminal.

    Rich's own needs ipywidgets, and shows nothing without; this needs what every notebook has.
    """

    def __init__(self, *columns: ProgressColumn, console: Console, transient: bool):
        super().__init__(*columns, console=console, auto_refresh=False)
        self._transient, self._handle, self._shown = transient, None, 0.0

    def start(self) -> None:
        from IPython.display import display  # pyright: ignore[reportMissingImports]

        self._handle = display(self._line(), raw=True, display_id=True)

    def stop(self) -> None:
        self._show({"text/plain": ""} if self._transient else self._line())
        self._handle = None

    def update(self, *arguments: object, **changes: object) -> None:
        super().update(*arguments, **changes)  # pyright: ignore
        self.refresh()

    def refresh(self) -> None:
        if time.monotonic() - self._shown > _REFRESH_SECONDS:
            self._show(self._line())

    def _show(self, line: dict[str, str]) -> None:
        if self._handle is not None:
            self._shown = time.monotonic()
            self._handle.update(line, raw=True)

    def _line(self) -> dict[str, str]:
        page = Console(file=io.StringIO(), width=100, force_jupyter=False, no_color=True)
        with page.capture() as text:
            page.print(self.get_renderable())
        return {"text/plain": text.get().rstrip()}
