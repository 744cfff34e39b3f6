"""experiments.benchmarks.training: a table whose numbers belong together."""

import json

import pytest

from experiments.benchmarks import training


def test_measures_pass_and_step(tmp_path, capsys):
    training.main(
        [
            "row-lstm-digits",
            "implicit-autoencoder-digits",
            "--batch-sizes=2",
            "--repeats=2",
            f"--output={tmp_path}",
        ]
    )
    assert "row-lstm-digits" in capsys.readouterr().out
    rows = json.loads((tmp_path / "training.json").read_text())["rows"]
    assert [(row["model"]["model"], row["batch"]) for row in rows] == [
        ("RowLSTM", 2),
        ("ImplicitAutoEncoder", 2),
    ]
    for row in rows:
        for kind in ("pass", "step"):
            result = row[kind]
            assert result["images_per_second"] == pytest.approx(row["batch"] / result["seconds"])
            assert result["gflop_per_second"] > 0
        # A gradient is a pass, and about two more.
        assert 2 < row["step"]["gflop"] / row["pass"]["gflop"] < 5
