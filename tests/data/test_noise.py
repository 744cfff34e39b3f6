"""What is drawn for an image: its bits, whether it is mirrored, how far it is moved."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gen_jax import data
from gen_jax.data import DataConfig, Dataset, Split, noise
from tests.image_sets import assert_equal_batches, batches, gray, numbered, ramp, save_npz

# Bits.


@pytest.mark.quick
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


@pytest.mark.quick
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


@pytest.mark.quick
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


@pytest.mark.quick
def test_an_intensity_of_zero_never_draws_one():
    zeros = np.zeros((16384, 64, 64), np.uint8)  # 2**26 uniforms: some of 24 bits are 0
    assert not noise.bernoulli(zeros, 255, seed=0, stream="train").any()


def test_no_two_images_of_an_epoch_share_their_noise():
    half = np.full((64, 2, 3, 1), 128, np.uint8)
    images = next(data.train_iterator(numbered(64, half), 64, seed=0))["images"].reshape(64, 6)
    assert len(np.unique(images, axis=0)) > 30  # of 64 patterns, 64 draws: 41 expected


# Flips and shifts.


def marked(size: int, height: int = 5, width: int = 7) -> Dataset:
    """Image i of a split: its pixels are all different, and tell where they come from."""
    pixels = np.arange(height * width, dtype=np.uint8).reshape(height, width, 1)
    split = Split(np.stack([pixels + 1 + i for i in range(size)]), np.arange(size, dtype=np.int32))
    return Dataset("marked", 256, "none", size, split, split, split)


def augmented(image: np.ndarray, flip: bool, down: int, right: int) -> np.ndarray:
    """Padded by its edge, cut out elsewhere: another way to the same."""
    image, edge = image[:, ::-1] if flip else image, 2
    padded = np.pad(image, ((edge, edge), (edge, edge), (0, 0)), mode="edge")
    height, width, _ = image.shape
    return padded[edge - down : edge - down + height, edge - right : edge - right + width]


@pytest.mark.parametrize(("flip", "shift"), [(True, 0), (False, 2), (True, 2)])
def test_images_are_mirrored_and_moved_uniformly(flip: bool, shift: int):
    dataset = dataclasses.replace(marked(40), flip=flip, shift=shift)
    kinds = [
        (mirrored, down, right)
        for mirrored in ([False, True] if flip else [False])
        for down in range(-shift, shift + 1)
        for right in range(-shift, shift + 1)
    ]
    kind_of = {augmented(dataset.train.images[0], *kind).tobytes(): kind for kind in kinds}
    counts = dict.fromkeys(kinds, 0)
    for batch in batches(data.train_iterator(dataset, 40, seed=0), 50):
        for image, label in zip(batch["images"], batch["labels"], strict=True):
            counts[kind_of[(image - label.astype(np.uint8)).tobytes()]] += 1
    expected = 2000 / len(kinds)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < len(kinds) - 1 + 5 * np.sqrt(2 * len(kinds))
    np.testing.assert_array_equal(dataset.test.images, marked(40).test.images)
    assert dataset.augmentation == ", ".join(["flips"] * flip + ["shifts of 2"] * (shift > 0))
    assert marked(1).augmentation == "none"


@pytest.mark.parametrize("dynamic", [False, True])
def test_flips_and_shifts_belong_to_the_position(dynamic: bool):
    dataset = dataclasses.replace(marked(30), flip=True, shift=2)
    if dynamic:
        dataset = dataclasses.replace(
            dataset, levels=2, intensities=dataset.train.images, intensity_levels=256
        )
    whole = batches(data.train_iterator(dataset, 8, seed=1), 9)
    parts = [
        batches(data.train_iterator(dataset, 8, 1, process_index=i, process_count=4), 9)
        for i in range(4)
    ]
    for i, batch in enumerate(whole):
        union = np.concatenate([part[i]["images"] for part in parts])
        np.testing.assert_array_equal(union, batch["images"])
    resumed = data.train_iterator(dataset, 8, seed=1)
    iterator = data.train_iterator(dataset, 8, seed=1)
    batches(iterator, 4)
    resumed.set_state(iterator.get_state())
    assert_equal_batches(batches(resumed, 5), whole[4:])
    other = next(data.train_iterator(dataset, 8, seed=2))
    assert (other["images"] != whole[0]["images"]).any()
    plain = dataclasses.replace(dataset, flip=False, shift=0)
    for batch, kept in zip(whole, batches(data.train_iterator(plain, 8, seed=1), 9), strict=True):
        np.testing.assert_array_equal(batch["indices"], kept["indices"])
        np.testing.assert_array_equal(batch["labels"], kept["labels"])


def test_intensities_are_moved_before_their_bits_are_drawn():
    image = np.zeros((1, 4, 4, 1), np.uint8)
    image[:, :, 0] = 255
    split = Split(np.repeat(image, 64, axis=0))
    dataset = Dataset("edge", 2, "dynamic", None, split, split, split, split.images, 256, flip=True)
    images = next(data.train_iterator(dataset, 64, seed=0))["images"][..., 0]
    left, right = (images[:, :, 0] == 1).all(axis=1), (images[:, :, 3] == 1).all(axis=1)
    assert (left ^ right).all()
    assert 16 < right.sum() < 48
