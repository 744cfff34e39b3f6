"""What scripts say of the data that they read, and how a run finds them again."""

import io
import json
import sys

import numpy as np
import pytest

from gen_jax import data, training
from gen_jax.scripts import cli, runs, train
from tests.image_sets import gray, save_npz

LABELS = np.array(["cat", "dög"])[np.arange(100) % 2]


@pytest.fixture
def tiles(tmp_path):
    images = gray(100, (4, 4)) % 17
    return save_npz(tmp_path / "tiles.npz", images=images, labels=LABELS, masks=images)


def test_notes_are_printed_once_whatever_the_terminal_shows(tiles, monkeypatch, capsys):
    runs.load_data(data.DataConfig(tiles, values="levels"))  # a warning would be an error here
    printed = capsys.readouterr()
    assert printed.out.count("arrays that are not used: 'masks' (uint8 [100, 4, 4])") == 1
    assert f"{tiles}: values are levels as they are: 17, the largest value 16\n" in printed.out
    assert "2 classes: 'cat', 'dög'" in printed.out
    assert printed.err == ""
    ascii_terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_terminal)
    cli.run(runs.load_data, data.DataConfig(tiles, values="levels"))
    monkeypatch.setattr(cli.jax, "process_index", lambda: 1)
    runs.load_data(data.DataConfig(tiles, values="levels"))
    ascii_terminal.seek(0)
    assert ascii_terminal.read().count("2 classes: 'cat', 'd?g'") == 1


def test_a_run_finds_its_data_from_another_folder(tiles, tmp_path, monkeypatch):
    """Under a relative name too; and the names of classes are in its record."""
    recorded = {}

    def no_training(*args, data, **kwargs):
        recorded.update(json.loads(json.dumps(data)))
        return training.TrainResult(1, False, None, None)

    monkeypatch.setattr(train.training, "train", no_training)
    monkeypatch.chdir(tmp_path)
    options = ["--data.name=tiles.npz", "--data.values=levels", "--data.flip", "--workdir=run"]
    train.main(["gated-pixelcnn-digits", *options])
    assert recorded["class_names"] == ["cat", "dög"]
    assert recorded["config"]["flip"] is True
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    dataset = runs.load_data(runs.data_config(recorded["config"]))
    assert dataset.fingerprint == recorded["fingerprint"]
