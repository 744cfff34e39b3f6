"""Seeds, and a terminal that goes away."""

import os

import jax
import pytest

from gen_jax.scripts import cli, evaluate


def test_a_seed_has_64_bits():
    assert cli.noise_key(-1) is not None
    assert jax.random.key_data(cli.noise_key(2**63 - 1)).size
    with pytest.raises(ValueError, match="seed is 9223372036854775808; accepted"):
        cli.noise_key(2**63)


def test_a_reader_that_goes_away_costs_no_result(tiny_run, tmp_path, monkeypatch):
    def gone(*arguments, **options):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", gone)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    evaluate.evaluate(evaluate.Options(str(tiny_run), output=str(tmp_path)))
    assert (tmp_path / "evaluation-test.json").exists()
