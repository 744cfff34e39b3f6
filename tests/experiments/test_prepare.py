"""Preparing a TFDS set: its script."""

import subprocess
import sys

from experiments import prepare


def test_prepare_without_tensorflow_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if it were not installed
    assert prepare.main("mnist") == 2
    error = capsys.readouterr().err
    assert "pip install 'gen_jax[prepare]'" in error
    assert error.count("\n") == 1


def test_prepare_has_help():
    command = [sys.executable, "-m", "experiments.prepare", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "NAME" in result.stdout
    assert "--data-dir" in result.stdout
