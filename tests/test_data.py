"""What is done to a data set, in which order it is read, and every mistake's message."""

import dataclasses
import json
from pathlib import Path

import grain
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from PIL import Image

from gen_jax import data
from gen_jax.data import DataConfig, Dataset, Split

from .image_sets import gray, save_npz


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


# What is done to the images.


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
