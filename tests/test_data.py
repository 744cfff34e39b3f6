"""Data sets: levels, splits, binarization, order and position, and every mistake's message."""

import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import numpy as np
import pytest
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from orbax.checkpoint import v1 as ocp
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from experiments import prepare
from gen_jax import data
from gen_jax.data import DataConfig, Dataset, Split


def gray(count: int, shape: tuple[int, ...] = (6, 5), seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (count, *shape)).astype(np.uint8)


def numbered(count: int, intensities: np.ndarray | None = None) -> Dataset:
    """Image i has label i, so that a batch tells which examples it holds."""
    labels = np.arange(count, dtype=np.int32)
    images = np.broadcast_to((labels % 251).astype(np.uint8)[:, None, None, None], (count, 2, 3, 1))
    split = Split(images, labels)
    dataset = Dataset("numbered", 256, "none", count, split, split, split)
    if intensities is None:
        return dataset
    return dataclasses.replace(
        dataset, levels=2, binarization="dynamic", intensities=intensities, intensity_levels=256
    )


def batches(iterator: grain.DatasetIterator, count: int) -> list[dict[str, np.ndarray]]:
    return [next(iterator) for _ in range(count)]


def assert_equal_batches(left: list, right: list) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


# A prepared TFDS set, written without TensorFlow.


def png(image: np.ndarray, mode: str | None = None) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    (picture.convert(mode) if mode else picture).save(file, "PNG")
    return file.getvalue()


def write_tfds(
    folder: Path,
    splits: dict[str, np.ndarray],
    *,
    labels: bool = True,
    mode: str | None = None,
    shape: tuple[int | None, ...] | None = None,
    dtype: str = "uint8",
    with_image: bool = True,
    file_format: str = "array_record",
) -> Path:
    """data_dir/name/version with array_record shards, features.json and dataset_info.json."""
    folder.mkdir(parents=True)
    name, version = folder.parent.name, folder.name
    shape = shape or next(iter(splits.values())).shape[1:]
    core = "tensorflow_datasets.core.features."
    features: dict[str, dict] = {}
    if with_image:
        dimensions = ["-1" if size is None else str(size) for size in shape]
        features["image"] = {
            "pythonClassName": core + "image_feature.Image",
            "image": {
                "dtype": dtype,
                "shape": {"dimensions": dimensions},
                "encodingFormat": "png",
            },
        }
    if labels or not with_image:
        features["label"] = {
            "pythonClassName": core + "class_label_feature.ClassLabel",
            "classLabel": {"numClasses": "3"},
        }
    root = {
        "pythonClassName": core + "features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (folder / "features.json").write_text(json.dumps(root))
    infos = []
    for split, images in splits.items():
        shard = folder / f"{name}-{split}.array_record-00000-of-00001"
        writer = array_record_module.ArrayRecordWriter(str(shard), "group_size:1")
        for i, image in enumerate(images):
            example = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue]
            example.features.feature["image"].bytes_list.value.append(png(image, mode))
            example.features.feature["label"].int64_list.value.append(i % 3)
            writer.write(example.SerializeToString())
        writer.close()
        infos.append(
            {
                "name": split,
                "numBytes": "1000",
                "shardLengths": [str(len(images))],
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    info = {"name": name, "version": version, "fileFormat": file_format, "splits": infos}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


# What the sets are.


def test_digits_split_is_fixed_disjoint_and_complete():
    from sklearn.datasets import load_digits

    dataset = data.load(DataConfig())
    sizes = [len(split) for split in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [1297, 250, 250]
    assert (dataset.image_shape, dataset.levels, dataset.num_classes) == ((8, 8, 1), 17, 10)
    assert dataset.binarization == "none"
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels is not None
    assert dataset.train.labels.dtype == np.int32

    def rows(split: Split) -> list[bytes]:
        assert split.labels is not None
        return [
            image.tobytes() + bytes([label])
            for image, label in zip(split.images, split.labels, strict=True)
        ]

    ours = [*rows(dataset.train), *rows(dataset.validation), *rows(dataset.test)]
    digits: Any = load_digits()
    every = rows(Split(digits.images.astype(np.uint8)[..., None], digits.target.astype(np.int32)))
    assert sorted(ours) == sorted(every)  # each once: no split shares an image with another
    assert ours != every

    again = data.load(DataConfig(seed=5))
    assert again.fingerprint == dataset.fingerprint  # no seed changes it
    # The split on every machine: NumPy guarantees RandomState's stream.
    assert dataset.test.labels is not None
    assert dataset.test.labels[:8].tolist() == [1, 0, 5, 6, 6, 8, 0, 7]


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
    with pytest.raises(ValueError, match="validation=10000 would leave none of the 40 images"):
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
    with pytest.raises(ValueError, match=r"several configs .* \['many/a', 'many/b'\]"):
        data.load(DataConfig("many", str(tmp_path)))


def test_one_bit_pngs_are_binary_with_one_channel(tmp_path: Path):
    """OMNIGLOT's trap: 0/1 or 0/255 as the decoder pleases, three equal channels, ink 0."""
    bits = (gray(10, (6, 5, 1)) > 127).astype(np.uint8)
    write_tfds(tmp_path / "glyphs" / "1.0.0", {"train": bits * 255}, mode="1", shape=(6, 5, 3))
    dataset = data.load(DataConfig("glyphs", str(tmp_path)))
    assert (dataset.levels, dataset.image_shape) == (2, (6, 5, 1))
    assert dataset.binarization == "static (as published)"
    order = np.random.RandomState(0).permutation(10)
    np.testing.assert_array_equal(dataset.train.images, bits[order[:8]])


def save_npz(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return str(path)


def test_npz(tmp_path: Path):
    images, target = gray(30), np.arange(30) % 4
    path = save_npz(tmp_path / "a.npz", images=images, target=target)
    dataset = data.load(DataConfig(path))
    sizes = [len(split) for split in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [24, 3, 3]
    assert (dataset.image_shape, dataset.num_classes) == ((6, 5, 1), 4)
    order = np.random.RandomState(0).permutation(30)
    np.testing.assert_array_equal(dataset.train.images[..., 0], images[order[:24]])
    np.testing.assert_array_equal(dataset.train.labels, target[order[:24]])
    assert data.load(DataConfig(path, seed=1)).fingerprint != dataset.fingerprint

    wide = np.arange(30 * 4, dtype=np.uint16).reshape(30, 2, 2) * 500
    path = save_npz(tmp_path / "b.npz", images=wide)
    dataset = data.load(DataConfig(path))
    assert dataset.levels == 65536
    assert dataset.train.images.dtype == np.uint16
    assert data.load(DataConfig(path, levels=256)).train.images.dtype == np.uint8


def test_npz_with_its_own_splits(tmp_path: Path):
    train, test = gray(30, (4, 4, 3)), gray(5, (4, 4, 3), 1)
    path = save_npz(tmp_path / "a.npz", train_images=train, test_images=test)
    dataset = data.load(DataConfig(path))
    np.testing.assert_array_equal(dataset.test.images, test)
    assert len(dataset.train) == 27
    assert len(dataset.validation) == 3


def test_folder(tmp_path: Path):
    images = gray(12)
    for i, image in enumerate(images):
        folder = tmp_path / "set" / f"class {i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02}.png")
    dataset = data.load(DataConfig(str(tmp_path / "set")))
    assert (dataset.num_classes, dataset.image_shape) == (3, (6, 5, 1))
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split) for split in splits] == [10, 1, 1]
    found = {}
    for split in splits:
        assert split.labels is not None
        for image, label in zip(split.images, split.labels, strict=True):
            found[image.tobytes()] = label
    assert found == {image.tobytes(): i % 3 for i, image in enumerate(images)}

    # One image in colour makes all RGB; differing sizes need a size.
    flat = tmp_path / "flat"
    flat.mkdir()
    for i in range(10):
        Image.fromarray(gray(1, (5 + i, 6, 3) if i == 4 else (5 + i, 6))[0]).save(flat / f"{i}.png")
    dataset = data.load(DataConfig(str(flat), size=(4, 7)))
    assert dataset.image_shape == (4, 7, 3)
    assert dataset.train.labels is None
    dataset = data.load(DataConfig(str(flat), size=(4, 7), grayscale=True))
    assert dataset.image_shape == (4, 7, 1)


# What is done to them.


def ramp(tmp_path: Path, count: int = 600) -> str:
    """Every intensity in its own pixel, in every image."""
    images = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16), (count, 16, 16))
    return save_npz(tmp_path / "ramp.npz", images=images)


def test_static_binarization_is_one_bernoulli_draw(tmp_path: Path):
    path = ramp(tmp_path)
    dataset = data.load(DataConfig(path, binarize="static", validation=50, test=50))
    assert (dataset.levels, dataset.binarization) == (2, "static (seed 0)")
    assert dataset.intensities is None
    mean = dataset.train.images.mean(axis=0).reshape(256)
    probability = np.arange(256) / 255
    deviation = np.sqrt(probability * (1 - probability) / 500)
    assert (np.abs(mean - probability) <= 5 * deviation).all()  # 0 and 255 exactly
    assert np.mean(((mean - probability) / (deviation + 1e-9))[1:-1] ** 2) == pytest.approx(1, 0.3)
    again = data.load(DataConfig(path, binarize="static", validation=50, test=50))
    assert again.fingerprint == dataset.fingerprint
    other = data.load(DataConfig(path, binarize="static", validation=50, test=50, seed=1))
    assert (other.test.images != dataset.test.images).any()
    # Splits do not share their noise.
    assert (dataset.test.images != dataset.validation.images).any()
    assert (dataset.test.images != dataset.train.images[:50]).any()


def test_dynamic_binarization_draws_anew_and_repeats_for_a_seed(tmp_path: Path):
    config = DataConfig(ramp(tmp_path), binarize="dynamic", validation=50, test=50)
    dataset = data.load(config)
    assert (dataset.levels, dataset.binarization) == (2, "dynamic")
    static = data.load(dataclasses.replace(config, binarize="static"))
    np.testing.assert_array_equal(dataset.test.images, static.test.images)
    np.testing.assert_array_equal(dataset.train.images, static.train.images)

    first, second = batches(data.train_iterator(dataset, 500, seed=3), 2)  # two epochs
    assert set(np.unique(first["images"])) == {0, 1}
    assert (first["images"] != second["images"]).any()
    probability = np.arange(256) / 255
    mean = (first["images"].mean(axis=0) + second["images"].mean(axis=0)).reshape(256) / 2
    deviation = np.sqrt(probability * (1 - probability) / 1000)
    assert (np.abs(mean - probability) <= 5 * deviation).all()
    assert_equal_batches([first], batches(data.train_iterator(dataset, 500, seed=3), 1))
    other = next(data.train_iterator(dataset, 500, seed=4))
    assert (other["images"] != first["images"]).mean() > 0.2  # other noise, all images being equal
    # The bits belong to the position, whatever the batch size.
    small = batches(data.train_iterator(dataset, 100, seed=3), 5)
    np.testing.assert_array_equal(np.concatenate([b["images"] for b in small]), first["images"])


def test_dynamic_binarization_changes_an_image_from_epoch_to_epoch(tmp_path: Path):
    images, labels = gray(30, (16, 16)), np.arange(30)
    path = save_npz(tmp_path / "a.npz", images=images, labels=labels)
    dataset = data.load(DataConfig(path, binarize="dynamic"))
    iterator = data.train_iterator(dataset, len(dataset.train), seed=0)
    epochs = []
    for batch in batches(iterator, 200):
        expected = images[batch["labels"]][..., None]
        assert (batch["images"][expected == 0] == 0).all()
        assert (batch["images"][expected == 255] == 1).all()
        epochs.append(batch["images"][np.argsort(batch["labels"])])
    assert (epochs[0] != epochs[1]).mean() == pytest.approx(1 / 3, abs=0.05)  # 2 p (1 - p)
    assert dataset.intensities is not None
    mean = np.mean(epochs, axis=0)
    by_label = np.argsort(np.asarray(dataset.train.labels))
    assert np.abs(mean - dataset.intensities[by_label] / 255).max() < 0.2


def test_an_intensity_of_zero_never_draws_one():
    zeros = np.zeros((16384, 64, 64), np.uint8)  # 2**26 uniforms: some of 24 bits are 0
    assert not data._bernoulli(zeros, 255, seed=0, stream="train").any()


def test_no_two_images_of_an_epoch_share_their_noise():
    half = np.full((64, 2, 3, 1), 128, np.uint8)
    images = next(data.train_iterator(numbered(64, half), 64, seed=0))["images"].reshape(64, 6)
    assert len(np.unique(images, axis=0)) > 30  # of 64 patterns, 64 draws: 41 expected


def test_threshold_and_levels(tmp_path: Path):
    path = ramp(tmp_path, 30)
    image = np.arange(256).reshape(16, 16, 1)
    dataset = data.load(DataConfig(path, binarize="threshold"))
    assert (dataset.levels, dataset.binarization) == (2, "threshold")
    np.testing.assert_array_equal(dataset.train.images[0], image > 127.5)
    dataset = data.load(DataConfig(path, levels=32))
    assert (dataset.levels, dataset.binarization) == (32, "none")
    np.testing.assert_array_equal(dataset.test.images[0], image >> 3)
    assert data.load(DataConfig(path, levels=2)).binarization == "threshold"
    digits = data.load(DataConfig(binarize="threshold"))
    np.testing.assert_array_equal(digits.test.images, data.load(DataConfig()).test.images > 8)


@pytest.mark.parametrize("binarize", [None, "static", "threshold"])
@pytest.mark.parametrize("high", [1, 255])
def test_a_binary_set_stays_as_published(tmp_path: Path, binarize, high: int):
    bits = (gray(30) > 127).astype(np.uint8)
    path = save_npz(tmp_path / "bits.npz", train_images=bits * high, test_images=bits[:5] * high)
    dataset = data.load(DataConfig(path, binarize=binarize))
    assert (dataset.levels, dataset.binarization) == (2, "static (as published)")
    np.testing.assert_array_equal(dataset.test.images[..., 0], bits[:5])


def test_resize_comes_before_binarization(tmp_path: Path):
    bits = np.zeros((30, 4, 4), np.uint8)
    bits[:, :2, :1] = 1  # the upper left quarter of the 2x2 result is half set
    path = save_npz(tmp_path / "bits.npz", images=bits)
    dataset = data.load(DataConfig(path, size=(2, 2)))
    assert (dataset.levels, dataset.binarization) == (256, "none")
    assert 80 < dataset.train.images[0, 0, 0, 0] < 150
    assert dataset.train.images[0, 1, 1, 0] == 0
    assert data.load(DataConfig(path, size=(4, 4))).levels == 2  # nothing to resize
    dynamic = data.load(DataConfig(path, size=(2, 2), binarize="dynamic"))
    assert (dynamic.levels, dynamic.binarization) == (2, "dynamic")
    constant = save_npz(tmp_path / "c.npz", images=np.full((30, 9, 7, 3), 77, np.uint8))
    dataset = data.load(DataConfig(constant, size=(5, 11)))
    assert dataset.image_shape == (5, 11, 3)
    assert (dataset.train.images == 77).all()
    noise = save_npz(tmp_path / "n.npz", images=gray(300, (8, 8)))
    halved = data.load(DataConfig(noise, size=(4, 4))).train.images
    original = data.load(DataConfig(noise)).train.images
    assert halved.mean() == pytest.approx(original.mean(), abs=0.25)  # rounded, not cut
    digits = data.load(DataConfig(size=(16, 16)))
    assert digits.levels == 17
    assert digits.train.images.max() <= 16


def test_resize_keeps_height_width_and_channels_apart(tmp_path: Path):
    images = np.zeros((30, 8, 4, 3), np.uint8)
    images[:, :4, :, 0] = 250  # upper half red
    images[:, :, :2, 2] = 100  # left half blue
    path = save_npz(tmp_path / "a.npz", images=images)
    image = data.load(DataConfig(path, size=(16, 2))).test.images[0]
    assert image[0, 0].tolist()[:2] == [250, 0]
    assert image[-1, 0, 0] == 0
    assert image[0, 0, 2] > 80
    assert image[0, 1, 2] < 20


def test_grayscale_is_luma(tmp_path: Path):
    images = gray(30, (4, 4, 3))
    path = save_npz(tmp_path / "a.npz", train_images=images, test_images=images)
    dataset = data.load(DataConfig(path, grayscale=True))
    expected = np.asarray(Image.fromarray(images[3]).convert("L"), int)
    assert np.abs(dataset.test.images[3, ..., 0].astype(int) - expected).max() <= 1
    assert dataset.levels == 256


# The order of training.


@pytest.mark.parametrize(("size", "batch_size"), [(30, 10), (30, 7), (5, 12)])
def test_every_example_once_an_epoch_and_each_epoch_in_its_own_order(size: int, batch_size: int):
    dataset = numbered(size)
    count = -(-4 * size // batch_size)
    seen = np.concatenate(
        [b["labels"] for b in batches(data.train_iterator(dataset, batch_size, 0), count)]
    )
    epochs = seen[: 4 * size].reshape(4, size)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(size), (4, 1)))
    assert len(np.unique(epochs, axis=0)) == 4
    assert (epochs[0] != np.arange(size)).any()


def test_images_and_labels_stay_together_and_seeds_differ():
    dataset = numbered(30)
    batch = next(data.train_iterator(dataset, 30, seed=0))
    np.testing.assert_array_equal(batch["images"][:, 0, 0, 0], batch["labels"])
    np.testing.assert_array_equal(batch["images"], dataset.train.images[batch["indices"]])
    assert batch["images"].dtype == np.uint8
    assert batch["labels"].dtype == np.int32
    # Seed 1 is not seed 0 an epoch later, as it is with Grain's own shuffle.
    later = batches(data.train_iterator(dataset, 30, seed=0), 2)[1]
    other = next(data.train_iterator(dataset, 30, seed=1))
    assert (other["labels"] != batch["labels"]).any()
    assert (other["labels"] != later["labels"]).any()
    unlabelled = dataclasses.replace(dataset, train=Split(dataset.train.images))
    assert set(next(data.train_iterator(unlabelled, 4, seed=0))) == {"images", "indices"}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("stop", [0, 3, 11])
def test_the_state_continues_bit_for_bit(dynamic: bool, stop: int):
    dataset = numbered(30, gray(30, (2, 3, 1)) if dynamic else None)
    iterator = data.train_iterator(dataset, 7, seed=1)
    assert isinstance(iterator, grain.DatasetIterator)
    batches(iterator, stop)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = batches(iterator, 9)  # more than two epochs
    resumed = data.train_iterator(dataset, 7, seed=1)
    batches(resumed, 2)
    resumed.set_state(state)
    assert_equal_batches(batches(resumed, 9), expected)


def test_the_state_goes_through_orbax(tmp_path: Path):
    dataset = numbered(30, gray(30, (2, 3, 1)))
    iterator = data.train_iterator(dataset, 7, seed=1)
    batches(iterator, 5)
    ocp.save_checkpointables(str(tmp_path / "step"), {"data": iterator})
    expected = batches(iterator, 5)
    resumed = data.train_iterator(dataset, 7, seed=1)
    ocp.load_checkpointables(str(tmp_path / "step"), {"data": resumed})
    assert_equal_batches(batches(resumed, 5), expected)


@pytest.mark.parametrize("dynamic", [False, True])
def test_processes_share_the_order(dynamic: bool):
    dataset = numbered(30, gray(30, (2, 3, 1)) if dynamic else None)
    whole = batches(data.train_iterator(dataset, 8, seed=1), 9)
    parts = [
        batches(data.train_iterator(dataset, 8, 1, process_index=i, process_count=4), 9)
        for i in range(4)
    ]
    assert all(len(part[0]["images"]) == 2 for part in parts)
    union = [
        {key: np.concatenate([part[i][key] for part in parts]) for key in whole[0]}
        for i in range(9)
    ]
    assert_equal_batches(union, whole)


# The order of evaluation.


@pytest.mark.parametrize(("size", "batch_size"), [(30, 10), (30, 7), (5, 12)])
def test_evaluation_counts_every_example_once(size: int, batch_size: int):
    split = numbered(size).test
    found = data.eval_batches(split, batch_size)
    for _ in range(2):  # it can be iterated again
        parts = list(found)
        assert len(parts) == len(found) == -(-size // batch_size)
        assert all(len(part["images"]) == len(part["mask"]) == batch_size for part in parts)
        seen = np.concatenate([part["labels"][part["mask"]] for part in parts])
        np.testing.assert_array_equal(seen, np.arange(size))
        images = np.concatenate([part["images"][part["mask"]] for part in parts])
        np.testing.assert_array_equal(images, split.images)
        padding = np.concatenate([part["images"][~part["mask"]] for part in parts])
        assert (padding == 0).all()
        assert parts[0]["mask"].dtype == bool


def test_evaluation_by_processes_covers_the_split_once():
    split = numbered(30).test
    parts = [list(data.eval_batches(split, 8, process_index=i, process_count=4)) for i in range(4)]
    assert {len(part) for part in parts} == {4}
    assert {len(batch["images"]) for part in parts for batch in part} == {2}
    seen = [batch["labels"][batch["mask"]] for part in parts for batch in part]
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(30))


# The fingerprint.


def test_the_fingerprint_follows_content(tmp_path: Path):
    images, labels = gray(30), np.arange(30) % 4

    def fingerprint(images: np.ndarray, labels: np.ndarray | None, **options) -> str:
        arrays = {"images": images} if labels is None else {"images": images, "labels": labels}
        return data.load(DataConfig(save_npz(tmp_path / "a.npz", **arrays), **options)).fingerprint

    changed = images.copy()
    changed[17, 2, 3] ^= 1
    relabelled = labels.copy()
    relabelled[17] = 0
    every = [
        fingerprint(images, labels),
        fingerprint(changed, labels),
        fingerprint(images, relabelled),
        fingerprint(images, None),
        fingerprint(images[::-1], labels[::-1]),
        fingerprint(images, labels, seed=1),
        fingerprint(images, labels, levels=32),
        fingerprint(images, labels, binarize="static"),
        fingerprint(images, labels, binarize="dynamic"),
        fingerprint(images, labels, validation=4),
    ]
    assert len(set(every)) == len(every)
    assert fingerprint(images, labels) == every[0]
    # Dynamic binarization: other intensities, even where the first draw happens to be the same.
    left, right = numbered(30, gray(30, (2, 3, 1))), numbered(30, gray(30, (2, 3, 1), 1))
    assert data._fingerprint(left) != data._fingerprint(right)


# Mistakes: one line, the value, what is accepted.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "minst"}, r"unknown data set 'minst' \(did you mean 'mnist'.*accepted are"),
        ({"name": "digit"}, r"unknown data set 'digit' \(did you mean 'digits'"),
        ({"name": ""}, "unknown data set ''"),
        ({"name": "/no/where"}, "'/no/where': no such .npz or folder"),
        ({"name": "no/where.npz"}, "'no/where.npz': no such file"),
        ({"levels": 1}, "levels=1: accepted are 2 and more"),
        ({"levels": 18}, "levels=18, but digits has 17: accepted are 2 to 17"),
        ({"levels": 4, "binarize": "static"}, "levels=4 with binarize='static'"),
        ({"size": (0, 8)}, r"size=\(0, 8\): accepted are a height and a width"),
        ({"validation": 0}, "validation=0: accepted are 1 and more"),
        ({"test": -1}, "test=-1: accepted are 1 and more"),
        (
            {"validation": 1000, "test": 797},
            "test=797 and validation=1000 would leave none of the 1797 images of digits",
        ),
        ({"test": 5000}, "test=5000 and validation=250 would leave none of the 1797"),
        ({"seed": -1}, "seed=-1: accepted are 0 to 4294967295"),
    ],
)
def test_bad_options(options: dict, message: str):
    with pytest.raises(ValueError, match=message) as error:
        data.load(DataConfig(**options))
    assert "\n" not in str(error.value)


def test_bad_binarize():
    config = DataConfig()
    object.__setattr__(config, "binarize", "sometimes")  # past the type checker of the tests
    with pytest.raises(ValueError, match="binarize='sometimes': accepted are"):
        data.load(config)


def test_a_tfds_set_that_is_not_prepared(tmp_path: Path):
    with pytest.raises(ValueError, match="'mnist' is not prepared in") as error:
        data.load(DataConfig("mnist", data_dir=str(tmp_path)))
    for word in ("python -m experiments.prepare mnist", "gen_jax[prepare]", "TFDS_DATA_DIR"):
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
    with pytest.raises(ValueError, match=r"1.0.0 cannot be read, is it complete\?") as error:
        data.load(DataConfig("tiny", data_dir=str(tmp_path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"with_image": False}, r"has no image among its features \['label'\]"),
        ({"dtype": "uint16"}, "has uint16 images: only uint8 is accepted"),
        ({"file_format": "tfrecord"}, "is not prepared as array_record, but as tfrecord"),
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
    with pytest.raises(ValueError, match=r"no split 'train': found \['test'\]"):
        load("a", {"test": images})
    with pytest.raises(ValueError, match="test=3, but b has its own test split of 10"):
        load("b", {"train": images, "test": images}, test=3)
    with pytest.raises(ValueError, match="the test split of 'c' is empty"):
        load("c", {"train": images, "test": images[:0]})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": gray(9)}, r"no array 'images' \(or 'train_images'\): found \['pixels'\]"),
        ({}, "found none"),
        ({"images": gray(9) / 255}, "images have dtype float64: accepted are uint8"),
        ({"images": gray(9)[:, 0]}, r"shape \(9, 5\): accepted are \[N, H, W\]"),
        ({"images": gray(0)}, r"shape \(0, 6, 5\)"),
        ({"images": gray(9), "labels": np.arange(8)}, "accepted are 9 integers, one an image"),
        ({"images": gray(9), "labels": np.arange(9) / 2}, "labels are float64"),
        ({"images": gray(9), "labels": np.arange(9) - 1}, "none below 0"),
        ({"images": np.array([None] * 9)}, "cannot be read.*allow_pickle"),
        ({"images": gray(2)}, "would leave none of the 2 images"),
        ({"train_images": gray(9), "test_images": gray(9, (5, 5))}, "splits of .* differ in size"),
        (
            {"train_images": gray(9), "test_images": gray(9), "test_labels": np.arange(9)},
            "labels must be given for every split or for none",
        ),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict, message: str):
    with pytest.raises(ValueError, match=message):
        data.load(DataConfig(save_npz(tmp_path / "a.npz", **arrays)))


@pytest.mark.parametrize("keep", [0, 30, 0.5, -30])
def test_a_truncated_npz(tmp_path: Path, keep: float):
    path = Path(save_npz(tmp_path / "a.npz", images=gray(30)))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else int(keep)])
    with pytest.raises(ValueError, match=r"a.npz cannot be read, is it complete\?"):
        data.load(DataConfig(str(path)))


def test_other_bad_npz_files(tmp_path: Path):
    np.save(tmp_path / "a.npy", gray(30))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a.npz cannot be read"):
        data.load(DataConfig(str(tmp_path / "a.npz")))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("images.npy", b"no array")
    with pytest.raises(ValueError, match=r"b.npz"):
        data.load(DataConfig(str(tmp_path / "b.npz")))
    (tmp_path / "c.npz").mkdir()
    with pytest.raises(ValueError, match=r"c.npz': no such file"):
        data.load(DataConfig(str(tmp_path / "c.npz")))
    (tmp_path / "words.txt").write_text("words")
    with pytest.raises(ValueError, match=r"words.txt' is a file, but neither a .npz nor a folder"):
        data.load(DataConfig(str(tmp_path / "words.txt")))


def test_bad_folders(tmp_path: Path):
    config = DataConfig(str(tmp_path))
    with pytest.raises(ValueError, match=r"holds no images \(.bmp .gif"):
        data.load(config)
    Image.fromarray(gray(1)[0]).save(tmp_path / "0.png")
    Image.fromarray(gray(1, (7, 7))[0]).save(tmp_path / "1.png")
    with pytest.raises(
        ValueError, match=r"differ in size, such as \(6, 5\) and \(7, 7\): set size"
    ):
        data.load(config)
    (tmp_path / "2.png").write_bytes((tmp_path / "0.png").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"2.png cannot be read, is it complete\?"):
        data.load(config)
    Image.fromarray(gray(1)[0].astype(np.uint16)).save(tmp_path / "2.png")
    with pytest.raises(ValueError, match=r"2.png .* only 8 bits are accepted"):
        data.load(config)
    (tmp_path / "sub").mkdir()
    Image.fromarray(gray(1)[0]).save(tmp_path / "sub" / "3.png")
    (tmp_path / "2.png").unlink()
    with pytest.raises(ValueError, match="mixes images and sub-folders"):
        data.load(config)


def test_what_a_set_cannot_give(tmp_path: Path):
    bits = save_npz(tmp_path / "bits.npz", images=gray(30) > 127)
    with pytest.raises(ValueError, match="binarize='dynamic' needs intensities"):
        data.load(DataConfig(bits, binarize="dynamic"))
    with pytest.raises(ValueError, match=r"levels=16, but .*bits.npz has 2: accepted are 2 to 2"):
        data.load(DataConfig(bits, levels=16))
    two = save_npz(tmp_path / "two.npz", images=gray(30, (4, 4, 2)))
    with pytest.raises(ValueError, match=r"grayscale needs 1 or 3 channels: .* has 2"):
        data.load(DataConfig(two, grayscale=True))


def test_bad_batches():
    dataset = numbered(30)
    for wrong in (0, -4, 6):
        with pytest.raises(ValueError, match=f"batch_size={wrong}: accepted are positive multip"):
            data.train_iterator(dataset, wrong, seed=0, process_count=4)
        with pytest.raises(ValueError, match=f"batch_size={wrong}: accepted are positive multip"):
            data.eval_batches(dataset.test, wrong, process_count=4)
    with pytest.raises(ValueError, match="process_index=4: accepted are 0 to 3"):
        data.train_iterator(dataset, 8, seed=0, process_index=4, process_count=4)
    with pytest.raises(ValueError, match="seed=-1: accepted are"):
        data.train_iterator(dataset, 8, seed=-1)


# The script.


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
        pytest.skip(f"no {name} in $TFDS_DATA_DIR: `python -m experiments.prepare {name}` makes it")
    dataset = data.load(DataConfig(name))
    assert (dataset.image_shape, dataset.levels) == (shape, levels)
    splits = [dataset.train, dataset.validation, dataset.test]
    assert [len(split) for split in splits] == sizes
    assert dataset.test.images.mean() == pytest.approx(mean, rel=1e-4)
    published = "static (as published)" if levels == 2 else "none"
    assert re.fullmatch(re.escape(published), dataset.binarization)
