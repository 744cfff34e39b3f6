"""In which order training and evaluation see a set, and what training does to its images."""

import dataclasses
import json
from pathlib import Path

import grain
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from gen_jax import data
from gen_jax.data import Dataset, Split
from tests.image_sets import assert_equal_batches, batches, gray, numbered


def test_no_two_images_of_an_epoch_share_their_noise():
    half = np.full((64, 2, 3, 1), 128, np.uint8)
    images = next(data.train_iterator(numbered(64, half), 64, seed=0))["images"].reshape(64, 6)
    assert len(np.unique(images, axis=0)) > 30  # of 64 patterns, 64 draws: 41 expected


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


def test_bad_batches():
    dataset = numbered(30)
    for wrong in (0, -4, 6):
        with pytest.raises(ValueError, match=f"batch_size is {wrong}; accepted: positive multip"):
            data.train_iterator(dataset, wrong, seed=0, process_count=4)
        with pytest.raises(ValueError, match=f"batch_size is {wrong}; accepted: positive multip"):
            data.eval_batches(dataset.test, wrong, process_count=4)
    with pytest.raises(ValueError, match="process_index is 4; accepted: whole numbers from 0 to 3"):
        data.train_iterator(dataset, 8, seed=0, process_index=4, process_count=4)
    with pytest.raises(ValueError, match="seed is -1; accepted:"):
        data.train_iterator(dataset, 8, seed=-1)
