"""Progress is seen on a terminal and in a notebook, and nowhere else."""

import io
import sys
import types

import pytest
from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn

from gen_jax import progress
from gen_jax.progress import progress_bar

pytestmark = pytest.mark.quick

COLUMNS = TextColumn("{task.description}"), MofNCompleteColumn()


class Notebook:
    """What IPython shows under a cell: each place, with all that stood there."""

    def __init__(self):
        self.places = []

    def display(self, line, *, raw, display_id):
        assert raw
        assert display_id
        place = [line["text/plain"]]
        self.places.append(place)

        def update(line, *, raw):
            assert raw
            place.append(line["text/plain"])

        return types.SimpleNamespace(update=update)


@pytest.fixture
def notebook(monkeypatch):
    shown = Notebook()
    module = types.ModuleType("IPython.display")
    module.display = shown.display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", -1.0)
    return shown


def notebook_console():
    return Console(force_jupyter=True, file=io.StringIO())


def test_a_notebook_sees_one_line_that_changes(notebook):
    with progress_bar(*COLUMNS, console=notebook_console()) as bar:
        assert list(bar.track(range(3), total=3, description="drawing")) == [0, 1, 2]
    (place,) = notebook.places
    assert [place[0], place[-1]] == ["", "drawing 3/3"]
    assert {"drawing 1/3", "drawing 2/3"} < set(place)


def test_it_goes_when_it_is_transient(notebook):
    with progress_bar(*COLUMNS, console=notebook_console(), transient=True) as bar:
        task = bar.add_task("finding", total=5)
        bar.update(task, completed=4)
    (place,) = notebook.places
    assert place[-2:] == ["finding 4/5", ""]


def test_a_notebook_is_not_flooded(notebook, monkeypatch):
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 3600.0)
    with progress_bar(*COLUMNS, console=notebook_console()) as bar:
        list(bar.track(range(1000), total=1000, description="drawing"))
    (place,) = notebook.places
    assert len(place) <= 4
    assert place[-1] == "drawing 1000/1000"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_sees_it_and_a_file_does_not(terminal):
    console = Console(force_terminal=terminal, force_jupyter=False, file=io.StringIO())
    with progress_bar(*COLUMNS, console=console) as bar:
        list(bar.track(range(3), total=3, description="drawing"))
    assert ("drawing" in console.file.getvalue()) == terminal
