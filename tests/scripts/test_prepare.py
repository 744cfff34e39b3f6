"""Preparing a TFDS set: its script, and its mistakes, one line each."""

import sys

import pytest
import tensorflow_datasets as tfds

from gen_jax.scripts import cli, prepare


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing from gen_jax prepare: NAME"),
        (["minst"], "name is 'minst' (did you mean 'mnist'"),
        (["digits"], "name is 'digits', which scikit-learn has ready"),
        (["mnist"], "pip install 'gen_jax[prepare]'"),
        (["mnist", "--dir=x"], "--dir"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, monkeypatch, capsys):
    tfds.list_builders(with_community_datasets=False)  # before it is missing
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if it were not installed
    with pytest.raises(SystemExit) as stop:
        cli.run(prepare.main, arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_prepare_has_help(capsys):
    with pytest.raises(SystemExit) as stop:
        prepare.main(["--help"])
    assert not stop.value.code
    output = capsys.readouterr().out
    assert "NAME" in output
    assert "--data-dir" in output
