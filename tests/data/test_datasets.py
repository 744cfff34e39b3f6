"""A data set in memory: its splits, its fingerprint, and what it cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen_jax import data
from gen_jax.data import DataConfig, Split, datasets
from tests.image_sets import gray, numbered, save_npz

# The fingerprint.


@pytest.mark.quick
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
        fingerprint(images, labels, flip=True),
        fingerprint(images, labels, shift=1),
        fingerprint(images, labels, flip=True, shift=1),
    ]
    assert len(set(every)) == len(every)
    assert fingerprint(images, labels) == every[0]
    # Dynamic binarization: other intensities, even where the first draw happens to be the same.
    left, right = numbered(30, gray(30, (2, 3, 1))), numbered(30, gray(30, (2, 3, 1), 1))
    assert datasets._fingerprint(left) != datasets._fingerprint(right)


# Mistakes: one line, the value, what is accepted.


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "minst"},
            r"name is 'minst' \(did you mean 'mnist'.*; accepted: 'digits', the name",
        ),
        ({"name": "digit"}, r"name is 'digit' \(did you mean 'digits'"),
        ({"name": ""}, "name is ''; accepted"),
        ({"name": "/no/where"}, "name is '/no/where', a path where nothing is; accepted"),
        ({"name": "no/where.npz"}, "name is 'no/where.npz', a file that is not there; accepted"),
        ({"levels": 1}, "levels is 1; accepted: whole numbers from 2 to 65536"),
        ({"levels": 18}, "levels is 18; accepted, for digits: whole numbers from 2 to 17"),
        (
            {"levels": 4, "binarize": "static"},
            "levels is 4; accepted, with binarize='static': 2, or None",
        ),
        ({"size": (0, 8)}, r"size \(height, width\) is \(0, 8\); accepted: 2 whole numbers"),
        ({"validation": 0}, "validation is 0; accepted: whole numbers of at least 1"),
        ({"test": -1}, "test is -1; accepted: whole numbers of at least 1"),
        (
            {"validation": 1000, "test": 797},
            "test is 797 and validation is 1000; accepted: what leaves one of the 1797 images of d",
        ),
        (
            {"test": 5000},
            "test is 5000 and validation is 250; accepted: what leaves one of the 1797",
        ),
        ({"seed": -1}, "seed is -1; accepted: whole numbers from 0 to 4294967295"),
        ({"levels": 70_000}, "levels is 70000; accepted: whole numbers from 2 to 65536"),
        ({"maximum": 0}, "maximum is 0; accepted: whole numbers from 1 to 65535"),
        ({"maximum": 15}, "maximum is 15; accepted, for the largest value of digits: 16 and more"),
        ({"shift": -1}, "shift is -1; accepted: whole numbers of at least 0"),
        ({"shift": 8}, "shift is 8; accepted, for images of 8 x 8: whole numbers from 0 to 7"),
        (
            {"values": "levels", "levels": 10},
            "levels is 10; accepted, for the largest value of digits, 16, with values=",
        ),
        (
            {"values": "levels", "binarize": "static"},
            "binarize is 'static'; accepted, with values='levels', .*: None",
        ),
        ({"values": "levels", "maximum": 3}, "maximum is 3; accepted, with values='levels'"),
        ({"name": "~no_such_user/x"}, "name is '~no_such_user/x', of a user without a home"),
        ({"name": "~no_such_user/x.npz"}, "of a user without a home folder; accepted"),
        ({"name": "mnist", "data_dir": "~no_such_user"}, "data_dir is '~no_such_user', of a user"),
        ({"name": "x" * 5000}, "File name too long"),
        ({"size": (100_000, 100_000)}, "digits: 1,797 images of 100000 x 100000 x 1 would take"),
    ],
)
def test_bad_options(options: dict, message: str):
    with pytest.raises(ValueError, match=message) as error:
        data.load(DataConfig(**options))
    assert "\n" not in str(error.value)


@pytest.mark.quick
def test_resolved_paths_are_found_from_every_folder(tmp_path: Path, monkeypatch):
    save_npz(tmp_path / "a.npz", images=gray(30))
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("a.npz", "folder"):
        resolved = data.resolved(DataConfig(name, data_dir="sets", levels=32))
        absolute = DataConfig(str(tmp_path / name), data_dir=str(tmp_path / "sets"), levels=32)
        assert resolved == absolute
        assert data.resolved(resolved) == resolved
    assert data.resolved(DataConfig()) == DataConfig()
    with pytest.raises(ValueError, match=r"'b.npz', a file that is not there"):
        data.resolved(DataConfig("b.npz"))


@pytest.mark.quick
def test_what_a_set_cannot_give(tmp_path: Path):
    bits = save_npz(tmp_path / "bits.npz", images=gray(30) > 127)
    with pytest.raises(
        ValueError, match=r"binarize is 'dynamic'; accepted, for .*: None, static, threshold"
    ):
        data.load(DataConfig(bits, binarize="dynamic"))
    with pytest.raises(
        ValueError, match=r"levels is 16; accepted, for .*bits.npz: whole numbers from 2 to 2"
    ):
        data.load(DataConfig(bits, levels=16))
    two = save_npz(tmp_path / "two.npz", images=gray(30, (4, 4, 2)))
    with pytest.raises(
        ValueError, match=r"grayscale is True, but .* has 2 channels; accepted: 1 or 3"
    ):
        data.load(DataConfig(two, grayscale=True))


@pytest.mark.quick
def test_a_whole_set_keeps_its_order(tmp_path):
    """Nothing is held out, nothing shuffled: stored splits follow one another."""
    images = np.arange(9 * 4, dtype=np.uint8).reshape(9, 2, 2)
    np.savez(tmp_path / "one.npz", images=images[:1])
    np.savez(
        tmp_path / "two.npz",
        **{"train_images": images[:5], "train_labels": np.arange(5)},
        **{"test_images": images[5:], "test_labels": np.arange(4)},
    )
    alone = data.load_whole(DataConfig(str(tmp_path / "one.npz"), values="levels", levels=36))
    np.testing.assert_array_equal(alone.train.images[..., 0], images[:1])
    both = data.load_whole(DataConfig(str(tmp_path / "two.npz"), values="levels"))
    np.testing.assert_array_equal(both.train.images[..., 0], images)
    np.testing.assert_array_equal(both.train.labels, [0, 1, 2, 3, 4, 0, 1, 2, 3])
    assert len(both.validation) == len(both.test) == 0


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
