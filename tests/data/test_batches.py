"""In which order training and evaluation see a set."""

import dataclasses
import json
from pathlib import Path

import grain
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from gen_jax import data
from gen_jax.data import Split
from tests.image_sets import assert_equal_batches, batches, gray, numbered

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
