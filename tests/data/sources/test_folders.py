"""Folders of images as people have them: classes, splits, links, and what else lies about."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gen_jax import data
from gen_jax.data import DataConfig, Dataset
from tests.image_sets import gray

SEVERAL = [f"{i}.png" for i in range(10)]


def tree(top: Path, *names: str) -> str:
    """Files below `top`: small images, each another, where a name ends as an image's."""
    for i, name in enumerate(names):
        file = top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".png":
            Image.fromarray(gray(1, seed=i)[0]).save(file)
        else:
            file.write_text("text")
    return str(top)


def below(folder: str) -> list[str]:
    return [f"{folder}/{file}" for file in SEVERAL]


def sizes(dataset: Dataset) -> list[int]:
    return [len(split) for split in (dataset.train, dataset.validation, dataset.test)]


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


# Classes and splits.


@pytest.mark.parametrize(
    ("folders", "counts", "classes"),
    [
        (["train", "test"], [9, 1, 10], None),
        (["Train", "VAL", "testing"], [10, 10, 10], None),
        (["training", "valid", "test"], [10, 10, 10], None),
        (["train", "validation"], [9, 10, 1], None),
        (["train/a", "train/b", "test/a", "test/b"], [18, 2, 20], ("a", "b")),
        (["train/a", "test/a", "test/b"], [9, 1, 20], ("a", "b")),
        (["set/train/images", "set/test/images"], [9, 1, 10], None),
        (["images"], [8, 1, 1], None),
        (["images/a", "images/b"], [16, 2, 2], ("a", "b")),
        (["train"], [8, 1, 1], None),
        (["bus", "train"], [16, 2, 2], ("bus", "train")),
        (["a/x", "a/y", "b"], [24, 3, 3], ("a", "b")),
        (["11", "2", "a10", "a9"], [32, 4, 4], ("2", "11", "a9", "a10")),
    ],
)
@pytest.mark.filterwarnings("ignore:.*test has classes that train has not. 'b'")
def test_layouts(tmp_path: Path, folders: list[str], counts: list[int], classes):
    tree(tmp_path, *(name for folder in folders for name in below(folder)))
    dataset = data.load(str(tmp_path))
    assert sizes(dataset) == counts
    assert dataset.class_names == classes
    assert dataset.num_classes == (classes and len(classes))
    if classes:
        assert f"{len(classes)} classes: {', '.join(map(repr, classes))}" in dataset.notes


def test_labels_are_the_numbers_of_the_names(tmp_path: Path):
    for name in ("2", "10", "1"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(5):
            image = np.full((2, 2), 20 * int(name) + i, np.uint8)
            Image.fromarray(image).save(tmp_path / "train" / name / f"{i}.png")
    dataset = data.load(str(tmp_path))
    assert dataset.class_names == ("1", "2", "10")
    assert dataset.train.labels is not None
    values = dataset.train.images[:, 0, 0, 0] // 20
    np.testing.assert_array_equal(np.array([1, 2, 10])[dataset.train.labels], values)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["test", "val"], r"the splits \['test', 'val'\]; accepted: train"),
        (["train", "test", "extra"], r"holds splits \('test', 'train'\) and other .*\('extra'\)"),
        (["train", "val", "valid"], r"splits \['train', 'val', 'valid'\]; accepted: one folder"),
        (["train/a", "train/b", "test"], r"holds images \(loose in test\) beside sub-folders"),
        (["a", "."], r"holds images beside sub-folders of images, which would be classes"),
    ],
)
def test_layouts_that_are_ambiguous(tmp_path: Path, folders: list[str], message: str):
    tree(tmp_path, *(name for folder in folders for name in below(folder)))
    with pytest.raises(ValueError, match=message):
        data.load(str(tmp_path))


# What else lies about.


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (
            ["a.txt", "b.json", "c.json", "d"],
            r"4 files not read.*\(2 \.json.*'a.txt', 'b.json'",
        ),
        (["a.pdf", "b.mpg"], r"2 files not read"),
        (["._0.png"], r"hidden and skipped: '\._0.png' \(1\)"),
        ([".thumbs/0.png", "__MACOSX/0.png"], r"skipped: '\.thumbs', '__MACOSX' \(2\)"),
    ],
)
def test_what_is_not_read_is_said(tmp_path: Path, others: list[str], said: str):
    for name in others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    path = tree(tmp_path, *SEVERAL)
    with pytest.warns(data.DataWarning, match=said) as warned:
        dataset = data.load(path)
    assert sizes(dataset) == [8, 1, 1]
    assert str(warned[0].message) == f"{path}: {dataset.notes[0]}"


def test_a_hidden_file_that_is_no_image_needs_no_word(tmp_path: Path):
    data.load(tree(tmp_path, *SEVERAL, ".DS_Store"))


def test_folders_named_as_images(tmp_path: Path):
    dataset = data.load(tree(tmp_path, *below("a.png"), *below("b.png")))
    assert dataset.class_names == ("a.png", "b.png")


def test_links_are_followed_once(tmp_path: Path):
    tree(tmp_path / "elsewhere", *SEVERAL)
    top = tmp_path / "set"
    tree(top, *below("b"))
    (top / "a").symlink_to(tmp_path / "elsewhere")
    assert data.load(str(top)).class_names == ("a", "b")
    (tmp_path / "link").symlink_to(top)
    assert sizes(data.load(str(tmp_path / "link"))) == [16, 2, 2]
    # A cycle, second ways to a folder, and the way out to all that lies beside the set.
    for link, target in (("b/up", ".."), ("0", top / "b"), ("out", tmp_path), ("b/a", top / "a")):
        (top / link).symlink_to(target)
    with pytest.warns(data.DataWarning, match=r"4 links to what is read already, .*: '0', 'b/a', "):
        dataset = data.load(str(top))
    assert sizes(dataset) == [16, 2, 2]
    assert dataset.class_names == ("a", "b")


@pytest.mark.parametrize("suffix", ["tiff", "jfif", "jpe", "PNG", "Jpg", "pnm", "tga", "dib"])
def test_every_suffix_of_pillow_is_read(tmp_path: Path, suffix: str):
    kind = Image.registered_extensions()[f".{suffix.lower()}"]
    for i, image in enumerate(gray(10)):
        if i % 2:
            Image.fromarray(image).save(tmp_path / f"{i}.{suffix}", kind)
        else:
            Image.fromarray(image).save(tmp_path / f"{i}.png")
    assert sizes(data.load(str(tmp_path))) == [8, 1, 1]


def test_bad_folders(tmp_path: Path):
    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message) as error:
            data.load(str(tmp_path))
        assert "\n" not in str(error.value)

    refused(r"holds no images that Pillow reads; accepted: names")
    (tmp_path / "0").write_text("")
    refused(r"no images .*1 file not read.*without suffix.*: '0'")
    (tmp_path / "0").unlink()
    Image.fromarray(gray(1)[0]).save(tmp_path / "0.png")
    other = tmp_path / "1.png"
    Image.fromarray(gray(1, (7, 7))[0]).save(other)
    refused(r"have sizes \(6, 5\) and \(7, 7\); accepted: .* size=\(height, width\)")
    other.write_bytes((tmp_path / "0.png").read_bytes()[:-30])
    refused(r"1.png cannot be read: .*; accepted: .* whole")
    other.write_bytes(b"")
    refused(r"1.png is empty; accepted: ")
    other.write_bytes(b"text")
    refused(r"1.png is no image that Pillow knows; accepted: ")
    other.unlink()
    other.symlink_to("/no/where.png")
    refused(r"1.png is a link to nothing; accepted: files")
    other.unlink()
    os.mkfifo(other)  # reading it would wait for ever
    for i in range(2, 5):
        Image.fromarray(gray(1)[0]).save(tmp_path / f"{i}.png")
    with pytest.warns(data.DataWarning, match=r"1 file not read"):
        data.load(str(tmp_path))
