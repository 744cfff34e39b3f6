"""TFDS sets without TensorFlow: where they are found, and what each one can get wrong."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gen_jax import data
from gen_jax.data import DataConfig, Dataset
from tests.image_sets import gray, write_tfds


def test_tfds_set_is_read_through_its_own_files(tmp_path: Path):
    stored = {"train": gray(40, (6, 5, 1)), "test": gray(7, (6, 5, 1), seed=1)}
    write_tfds(tmp_path / "tiny" / "1.0.0", stored)
    calls = []
    dataset = data.load(
        DataConfig("tiny", data_dir=str(tmp_path), validation=10),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls[-1] == (47, 47)
    assert (dataset.levels, dataset.num_classes, dataset.image_shape) == (256, 3, (6, 5, 1))
    np.testing.assert_array_equal(dataset.test.images, stored["test"])
    np.testing.assert_array_equal(dataset.test.labels, np.arange(7) % 3)
    order = np.random.RandomState(0).permutation(40)
    np.testing.assert_array_equal(dataset.train.images, stored["train"][order[:30]])
    np.testing.assert_array_equal(dataset.validation.images, stored["train"][order[30:]])
    np.testing.assert_array_equal(dataset.validation.labels, order[30:] % 3)


def test_tfds_data_dir_comes_from_the_environment(tmp_path: Path, monkeypatch):
    write_tfds(tmp_path / "tiny" / "1.0.0", {"train": gray(10, (6, 5, 3))}, labels=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    dataset = data.load(DataConfig("tiny"))
    assert dataset.image_shape == (6, 5, 3)
    assert dataset.train.labels is None
    assert dataset.num_classes is None
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [8, 1, 1]


def test_mnist_holds_out_the_end_of_train_in_its_order(tmp_path: Path):
    stored = {"train": gray(40, (6, 5, 1)), "test": gray(7, (6, 5, 1), seed=1)}
    write_tfds(tmp_path / "mnist" / "3.0.1", stored)
    dataset = data.load(DataConfig("mnist", data_dir=str(tmp_path), validation=12, seed=3))
    np.testing.assert_array_equal(dataset.train.images, stored["train"][:28])
    np.testing.assert_array_equal(dataset.validation.images, stored["train"][28:])
    with pytest.raises(
        ValueError, match="validation is 10000; accepted: what leaves one of the 40 images"
    ):
        data.load(DataConfig("mnist", data_dir=str(tmp_path)))


def test_tfds_version_and_config_are_found(tmp_path: Path):
    for version, count in (("2.0.0", 10), ("10.0.0", 20)):
        write_tfds(tmp_path / "tiny" / version, {"train": gray(count, (6, 5, 1))})
    assert len(data.load(DataConfig("tiny", str(tmp_path))).train) == 16  # 10.0.0 is the newest
    assert len(data.load(DataConfig("tiny:2.0.0", str(tmp_path))).train) == 8
    for config, count in (("a", 10), ("b", 20)):
        folder = write_tfds(tmp_path / config / "1.0.0", {"train": gray(count, (6, 5, 1))})
        shutil.copytree(folder, tmp_path / "many" / config / "1.0.0")
    assert len(data.load(DataConfig("many/b", str(tmp_path))).train) == 16
    with pytest.raises(ValueError, match=r"several configs .* many/a, many/b$"):
        data.load(DataConfig("many", str(tmp_path)))


def test_one_bit_pngs_are_binary_with_one_channel(tmp_path: Path):
    """OMNIGLOT's trap: 0/1 or 0/255 as the decoder pleases, three equal channels, ink 0."""
    bits = (gray(10, (6, 5, 1)) > 127).astype(np.uint8)
    write_tfds(tmp_path / "glyphs" / "1.0.0", {"train": bits * 255}, mode="1", shape=(6, 5, 3))
    dataset = data.load(DataConfig("glyphs", str(tmp_path)))
    assert (dataset.levels, dataset.image_shape) == (2, (6, 5, 1))
    assert dataset.binarization == "two levels, as stored"
    order = np.random.RandomState(0).permutation(10)
    np.testing.assert_array_equal(dataset.train.images, bits[order[:8]])


# Mistakes: one line, the value, what is accepted.


def test_a_tfds_set_that_is_not_prepared(tmp_path: Path):
    with pytest.raises(ValueError, match="'mnist' is not prepared in") as error:
        data.load(DataConfig("mnist", data_dir=str(tmp_path)))
    for word in ("gen_jax prepare mnist", "gen_jax[prepare]", "TFDS_DATA_DIR"):
        assert word in str(error.value)
    write_tfds(tmp_path / "mnist" / "3.0.1", {"train": gray(10, (6, 5, 1))})
    with pytest.raises(ValueError, match=r"'mnist:1.0.0' is not prepared"):
        data.load(DataConfig("mnist:1.0.0", data_dir=str(tmp_path)))


def truncate(folder: Path) -> None:
    shard = next(folder.glob("*train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:-5000])


def lose(folder: Path) -> None:
    next(folder.glob("*train.array_record*")).unlink()


def garble(folder: Path) -> None:
    (folder / "dataset_info.json").write_text("{")


@pytest.mark.parametrize("damage", [truncate, lose, garble])
def test_a_damaged_tfds_set(tmp_path: Path, damage: Callable[[Path], None]):
    folder = write_tfds(tmp_path / "tiny" / "1.0.0", {"train": gray(200, (6, 5, 1))})
    data.load(DataConfig("tiny", data_dir=str(tmp_path)))
    damage(folder)
    with pytest.raises(ValueError, match=r"1.0.0 cannot be read: .*; accepted: .* whole") as error:
        data.load(DataConfig("tiny", data_dir=str(tmp_path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["class name", "older form", "json within"])
def test_features_of_a_set_import_no_module(tmp_path: Path, monkeypatch, form: str):
    """TFDS imports the module of whatever class features.json names."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = write_tfds(tmp_path / "tiny" / "1.0.0", {"train": gray(10, (6, 5, 1))})
    features = json.loads((folder / "features.json").read_text())
    older = {"type": "evil_module.Feature", "content": {}, "proto_cls": ""}
    features["featuresDict"]["features"]["label"] = {
        "class name": {"pythonClassName": "evil_module.Feature", "text": {}},
        "older form": older,
        "json within": {
            "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
            "jsonFeature": {"json": json.dumps({"x": older})},
        },
    }[form]
    (folder / "features.json").write_text(json.dumps(features))
    with pytest.raises(ValueError, match=r"features.json names the class 'evil_module.Feature'"):
        data.load(DataConfig("tiny", data_dir=str(tmp_path)))
    assert "evil_module" not in sys.modules


def test_names_of_classes_and_splits_that_are_not_used(tmp_path: Path):
    splits = {"train": gray(10, (6, 5, 1)), "extra": gray(10, (6, 5, 1))}
    folder = write_tfds(tmp_path / "tiny" / "1.0.0", splits)
    with pytest.warns(data.DataWarning, match="tiny: splits that are not used: 'extra'"):
        dataset = data.load(DataConfig("tiny", data_dir=str(tmp_path)))
    assert dataset.class_names is None
    (folder / "label.labels.txt").write_text("cat\ndog\nowl\n")
    with pytest.warns(data.DataWarning):
        dataset = data.load(DataConfig("tiny", data_dir=str(tmp_path)))
    assert dataset.class_names == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"with_image": False}, "has the features label; accepted: one of images"),
        ({"dtype": "uint16"}, "has images of uint16; accepted: uint8"),
        ({"file_format": "tfrecord"}, "is prepared as tfrecord; accepted: array_record"),
    ],
)
def test_a_tfds_set_that_does_not_fit(tmp_path: Path, options: dict, message: str):
    write_tfds(tmp_path / "tiny" / "1.0.0", {"train": gray(10, (6, 5, 1))}, **options)
    with pytest.raises(ValueError, match=message):
        data.load(DataConfig("tiny", data_dir=str(tmp_path)))


def test_tfds_splits_that_do_not_fit(tmp_path: Path):
    def load(name: str, splits: dict[str, np.ndarray], **options) -> Dataset:
        write_tfds(tmp_path / name / "1.0.0", splits)
        return data.load(DataConfig(name, data_dir=str(tmp_path), **options))

    images = gray(10, (6, 5, 1))
    with pytest.raises(ValueError, match="the splits test; accepted: train"):
        load("a", {"test": images})
    with pytest.raises(
        ValueError, match="test is 3, but b has its own test split of 10; accepted: None"
    ):
        load("b", {"train": images, "test": images}, test=3)
    with pytest.raises(ValueError, match="the test split of 'c' is empty"):
        load("c", {"train": images, "test": images[:0]})


# The real sets, where they are.


@pytest.mark.parametrize(
    ("name", "shape", "levels", "sizes", "mean"),
    [
        ("binarized_mnist", (28, 28, 1), 2, [50000, 10000, 10000], 0.132512),
        ("mnist", (28, 28, 1), 256, [50000, 10000, 10000], 0.13251 * 255),
    ],
)
def test_real_sets(name: str, shape: tuple, levels: int, sizes: list[int], mean: float):
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"no {name} in $TFDS_DATA_DIR: `gen_jax prepare {name}` makes it")
    dataset = data.load(DataConfig(name))
    assert (dataset.image_shape, dataset.levels) == (shape, levels)
    splits = [dataset.train, dataset.validation, dataset.test]
    assert [len(split) for split in splits] == sizes
    assert dataset.test.images.mean() == pytest.approx(mean, rel=1e-4)
    published = "static (as published)" if levels == 2 else "none"
    assert re.fullmatch(re.escape(published), dataset.binarization)
