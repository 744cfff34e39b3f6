"""Where images come from: digits, TFDS folders, .npz, folders, and what each one can get wrong."""

import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gen_jax import data
from gen_jax.data import DataConfig, Dataset, Split

from .image_sets import gray, save_npz, write_tfds


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


# Mistakes: one line, the value, what is accepted.


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
