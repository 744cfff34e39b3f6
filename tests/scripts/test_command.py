"""gen_jax COMMAND: each script that takes arguments is one, and is found by its name."""

import importlib
import pkgutil

import pytest

from gen_jax import scripts
from gen_jax.scripts import command
from tests.cases import one_line_error

pytestmark = pytest.mark.quick


def test_every_script_with_a_main_is_a_command(capsys):
    modules = {
        name: importlib.import_module(f"gen_jax.scripts.{name}")
        for _, name, _ in pkgutil.iter_modules(scripts.__path__)
        if name != "command"
    }
    assert command.COMMANDS.keys() == {
        n for n, module in modules.items() if hasattr(module, "main")
    }
    command.main([])
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    assert told == list(command.COMMANDS)


def test_a_command_gets_the_arguments_after_its_name(monkeypatch):
    given = []
    monkeypatch.setattr("gen_jax.scripts.sample.main", given.append)
    command.main(["sample", "run", "--seed=3"])
    assert given == [["run", "--seed=3"]]
    with one_line_error("command is 'smaple'.*sample"):
        command.main(["smaple"])
