"""experiments.train, as a user runs it."""

import json
import signal

import numpy as np
import pytest
from PIL import Image

import gen_jax
from gen_jax import training
from gen_jax.scripts import cli, demo, train
from tests.scripts.conftest import TINY, command, train_tiny


def test_trains_resumes_and_refuses(tmp_path):
    workdir = tmp_path / "run"
    arguments = ("gated-pixelcnn-digits", *TINY, f"--workdir={workdir}")
    first = command("train", *arguments, "--training.sample-every=2")
    assert first.returncode == 0, first.stderr
    assert "best:" in first.stdout
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert {record["split"] for record in records} == {"validation"}  # 4 steps, logged each 20
    assert [record["step"] for record in records] == [2, 4]
    assert all(record["count"] == 250 for record in records)
    for name in ("loss.png", "samples/step_0000002.png", "samples/step_0000004.png"):
        with Image.open(workdir / name) as picture:
            assert np.asarray(picture).std() > 0
    model, variables = gen_jax.load(workdir)
    assert model.image_shape == (4, 4, 1)
    assert np.isfinite(variables["params"]["head"]["convs_0"]["bias"]).all()

    again = command("train", *arguments)
    assert again.returncode == 0, again.stderr
    assert "is finished at step 4" in again.stdout
    other = command("train", *arguments, "--model.features=8")
    assert other.returncode == 2
    assert other.stderr.count("\n") == 1
    assert "model.features is 4 there, 8 here" in other.stderr


def test_stopped_scripts_end_with_the_status_of_the_signal(tmp_path, monkeypatch):
    """`train && evaluate` must not go on with a part-trained model."""
    stopped = training.TrainResult(3, False, None, None, signal.SIGTERM)
    monkeypatch.setattr(training, "train", lambda *arguments, **options: stopped)
    for main, arguments in ((train.main, ["gated-pixelcnn-digits"]), (demo.main, [])):
        with pytest.raises(SystemExit) as stop:
            cli.run(main, [*arguments, f"--workdir={tmp_path}"])
        assert stop.value.code == 128 + signal.SIGTERM


def test_a_finished_run_is_finished_whether_its_curves_can_be_drawn_or_not(
    tmp_path, monkeypatch, capsys
):
    finished = training.TrainResult(4, True, 4, 1.5)
    monkeypatch.setattr(training, "train", lambda *arguments, **options: finished)
    monkeypatch.setattr(train, "save_curves", lambda folder: 1 / 0)
    train_tiny(tmp_path)
    assert "best: 1.5000 bits/dim" in capsys.readouterr().out


def test_help_lists_presets_and_options():
    listing = command("train", "--help")
    assert listing.returncode == 0
    assert "gated-pixelcnn-mnist" in listing.stdout
    options = command("train", "gated-pixelcnn-mnist", "--help")
    assert options.returncode == 0
    assert "--training.optimizer.learning-rate" in options.stdout
    assert "Width of the hidden layers" in options.stdout
