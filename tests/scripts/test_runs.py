"""What scripts say of the data that they read, how a run finds them again, and its labels."""

import dataclasses
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from gen_jax import data, training
from gen_jax.scripts import cli, evaluate, runs, sample, train
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


def test_a_label_has_a_name(tiny_class_run, tmp_path):
    """`--label` by name, classes as columns of the grid, names beside the images."""
    record = json.loads((tiny_class_run / "run.json").read_text())
    run = runs.open_run(str(tiny_class_run))
    assert run.class_names == tuple(record["data"]["class_names"]) == tuple("0123456789")
    labels = runs.labels_for(run.model, 3, "cat", ["dog", "cat", *"abcdefgh"])
    np.testing.assert_array_equal(labels, [1, 1, 1])
    with pytest.raises(ValueError, match=r"label is bird; accepted: 0 … 9, dog, cat"):
        runs.labels_for(run.model, 3, "bird", ["dog", "cat", *"abcdefgh"])
    sample.sample(
        sample.Options(str(tiny_class_run), num_images=20, animate=False, output=str(tmp_path))
    )
    written = np.load(tmp_path / "samples.npz")
    assert tuple(written["class_names"]) == run.class_names
    with Image.open(tmp_path / "samples.png") as picture:
        width, height = picture.size
    assert width > 3 * height  # ten columns, two rows


def test_classes_of_other_data_are_matched_by_their_names(tiny_class_run):
    run = runs.open_run(str(tiny_class_run))
    labels = np.array([0, 1, 1], np.int32)
    np.testing.assert_array_equal(run.labels(labels, ("7", "3")), [7, 3, 3])
    np.testing.assert_array_equal(run.labels(labels, None), labels)
    with pytest.raises(ValueError, match="a class 'cat'; accepted: 0, 1"):
        run.labels(labels, ("cat", "3"))


def test_the_content_decides_what_the_runs_own_data_are(tiny_run, tmp_path, monkeypatch, capsys):
    """At another path they are split as ever; with other content all of them are refused too."""
    run = runs.open_run(str(tiny_run))
    dataset = data.load(run.data_config)
    fingerprint = dataset.fingerprint
    monkeypatch.setattr(
        runs, "load_data", lambda config, **_: dataclasses.replace(dataset, fingerprint=fingerprint)
    )
    moved = dataclasses.replace(run.data_config, name="/elsewhere")
    images = runs.load_images(run, evaluate.Options(str(tiny_run), data=moved))
    assert images.name == "test"
    assert len(images.split) == len(dataset.test)
    assert "holds the data of this run" in capsys.readouterr().out
    fingerprint = "another"
    for split in (None, "all"):
        with pytest.raises(ValueError, match="is not the data of this run any more"):
            runs.load_images(run, evaluate.Options(str(tiny_run), split))
