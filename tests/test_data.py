"""What is done to a data set, and every mistake's message."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gen_jax import data
from gen_jax.data import DataConfig, datasets, memory, noise

from .image_sets import assert_equal_batches, batches, gray, numbered, save_npz

pytestmark = pytest.mark.quick

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
    assert not noise.bernoulli(zeros, 255, seed=0, stream="train").any()


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
        ({"name": "~no_such_user/x"}, "data set '~no_such_user/x': there is no home folder"),
        ({"name": "~no_such_user/x.npz"}, "there is no home folder of that user"),
        ({"name": "mnist", "data_dir": "~no_such_user"}, "data_dir '~no_such_user': there is no"),
        ({"name": "x" * 5000}, "File name too long"),
        ({"size": (100_000, 100_000)}, "digits: 1,797 images of 100000 x 100000 x 1 would take"),
    ],
)
def test_bad_options(options: dict, message: str):
    with pytest.raises(ValueError, match=message) as error:
        data.load(DataConfig(**options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "kind", "message"),
    [
        ("binarize", "sometimes", ValueError, "binarize is 'sometimes'; accepted:"),
        ("values", "codes", ValueError, r"values is 'codes'; accepted: intensity, levels"),
        ("background", None, ValueError, "background is None; accepted:"),
        ("levels", 4.5, TypeError, "levels is 4.5; accepted: whole"),
        ("levels", "4", TypeError, "levels is '4'; accepted: whole"),
        ("size", 8, TypeError, r"size \(height, width\) is 8; accepted: 2"),
        ("size", (8,), ValueError, r"size \(height, width\) is \(8,\); accepted: 2"),
        ("seed", None, TypeError, "seed is None; accepted: whole"),
        ("flip", "yes", TypeError, "flip is 'yes'; accepted: True, False"),
        ("name", 3, TypeError, "name is 3; accepted: a text, or a path"),
        ("data_dir", 3, TypeError, "data_dir is 3; accepted: a text, or a path"),
    ],
)
def test_values_that_an_option_does_not_have(key: str, value, kind: type, message: str):
    config = DataConfig()
    object.__setattr__(config, key, value)  # past the type checker of the tests
    with pytest.raises(kind, match=message) as error:
        data.load(config)
    assert "\n" not in str(error.value)


def test_a_name_or_a_path_stands_for_a_configuration(tmp_path: Path):
    assert data.load("digits").fingerprint == data.load(DataConfig()).fingerprint
    path = Path(save_npz(tmp_path / "a.npz", images=gray(30)))
    assert data.load(path).fingerprint == data.load(DataConfig(str(path))).fingerprint
    config = DataConfig()
    object.__setattr__(config, "size", [np.int64(4), 4])
    object.__setattr__(config, "levels", np.int32(17))
    dataset = data.load(config)
    assert (dataset.image_shape, dataset.levels) == ((4, 4, 1), 17)


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


def test_configurations_of_before_and_as_json():
    before = {"name", "data_dir", "binarize", "levels", "size", "grayscale", "validation", "test"}
    fields = data.to_dict(DataConfig("x", size=(3, 4)))
    assert fields.keys() == {*before, "seed"}  # as runs of before have it
    config = DataConfig("x", values="levels", flip=True, shift=2)
    fields = json.loads(json.dumps(data.to_dict(config)))
    assert fields.keys() == {*before, "seed", "values", "flip", "shift"}
    assert DataConfig(**fields) == config


def test_values_that_are_levels(tmp_path: Path):
    tiles = gray(30) % 17
    path = save_npz(tmp_path / "a.npz", images=tiles)
    order = np.random.RandomState(0).permutation(30)[:24]
    for levels in (None, 17, 20):
        dataset = data.load(DataConfig(path, values="levels", levels=levels))
        assert dataset.levels == (levels or 17)
        assert dataset.binarization == "none"
        np.testing.assert_array_equal(dataset.train.images[..., 0], tiles[order])
    # Each pixel of a smaller one is a pixel of the larger, not a mean.
    halved = data.load(DataConfig(path, values="levels", size=(3, 5)))
    near = np.stack([tiles[order, i : i + 2] for i in (0, 2, 4)], axis=1)
    assert (halved.train.images[:, :, None, :, 0] == near).any(axis=2).all()
    codes = save_npz(tmp_path / "b.npz", images=tiles.astype(np.int64) * 30)
    dataset = data.load(DataConfig(codes, values="levels", levels=512))
    assert (dataset.levels, dataset.train.images.dtype) == (512, np.uint16)
    bits = save_npz(tmp_path / "c.npz", images=(tiles > 8) * np.uint8(255))
    assert data.load(DataConfig(bits)).levels == 2
    assert data.load(DataConfig(bits, values="levels")).levels == 256
    assert data.load(DataConfig(bits, maximum=255)).levels == 2


@pytest.mark.parametrize(
    ("images", "options", "note"),
    [
        (gray(30), {}, "values are intensities: 0 is black, 255 white, the largest value 25"),
        (gray(30) // 3, {}, "the largest value 85; set values='levels' if they are levels, or max"),
        ((gray(30) > 9).astype("u2") * 65535, {}, "every value is 0 or 65535: a binary set"),
        (gray(30) % 17, {"values": "levels"}, "values are levels as they are: 17, the largest"),
        (gray(30) % 17, {"maximum": 16}, "0 is black, 16 white, the largest value 16"),
    ],
)
def test_the_range_that_values_were_taken_to_have_is_said(tmp_path: Path, images, options, note):
    dataset = data.load(DataConfig(save_npz(tmp_path / "a.npz", images=images), **options))
    assert note in dataset.notes[-1]


def test_a_range_that_is_probably_another_is_a_warning(tmp_path: Path):
    tiles = save_npz(tmp_path / "a.npz", images=gray(30) % 17)
    with pytest.warns(data.DataWarning, match=r"a.npz: values are .*largest value 16; set values="):
        data.load(tiles)
    with pytest.raises(
        ValueError, match=r"levels is 17, which quantises .* is 16: set values='levels' if"
    ):
        data.load(DataConfig(tiles, levels=17))
    dark = save_npz(tmp_path / "b.npz", images=gray(30) // 3)
    with pytest.warns(data.DataWarning, match="the largest value 85"):
        data.load(DataConfig(dark, levels=32))
    black = save_npz(tmp_path / "c.npz", images=gray(30) * 0)
    with pytest.warns(data.DataWarning, match="every value is 0"):
        data.load(black)


def test_a_large_image_needs_no_memory_after_it_is_resized(tmp_path: Path):
    """All originals at once would be 40 times what one and the small ones take."""
    for i in range(40):
        Image.fromarray(np.full((400, 500), 100 + i, np.uint8)).save(tmp_path / f"{i}.png")
    tracemalloc.start()
    data.load(DataConfig(str(tmp_path), size=(8, 8)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 400 * 500


def test_memory_is_estimated_by_what_results(tmp_path: Path, monkeypatch):
    for i, image in enumerate(gray(10, (20, 20, 3))):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(memory, "available", lambda: 10_000)
    data.load(DataConfig(str(tmp_path), size=(8, 8)))
    data.load(DataConfig(str(tmp_path), grayscale=True))
    with pytest.raises(ValueError, match="10 images of 20 x 20 x 3 would take"):
        data.load(str(tmp_path))
    monkeypatch.setattr(memory, "available", lambda: None)
    data.load(str(tmp_path))


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
