"""What is done to the images: threshold, levels, size, grey, and which value is white."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gen_jax import data
from gen_jax.data import DataConfig
from tests.image_sets import gray, ramp, save_npz

pytestmark = pytest.mark.quick


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
def test_a_binary_set_stays_as_stored(tmp_path: Path, binarize, high: int):
    bits = (gray(30) > 127).astype(np.uint8)
    path = save_npz(tmp_path / "bits.npz", train_images=bits * high, test_images=bits[:5] * high)
    dataset = data.load(DataConfig(path, binarize=binarize))
    assert (dataset.levels, dataset.binarization) == (2, "two levels, as stored")
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
        ValueError, match=r"levels is 17, which quantises .* is 16; accepted: values='levels' if"
    ):
        data.load(DataConfig(tiles, levels=17))
    dark = save_npz(tmp_path / "b.npz", images=gray(30) // 3)
    with pytest.warns(data.DataWarning, match="the largest value 85"):
        data.load(DataConfig(dark, levels=32))
    black = save_npz(tmp_path / "c.npz", images=gray(30) * 0)
    with pytest.warns(data.DataWarning, match="every value is 0"):
        data.load(black)


def test_large_images_of_two_values_are_refused_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They are kept as stored until all are seen."""
    bits = (gray(30, (40, 50)) > 127).astype(np.uint8)
    path = save_npz(tmp_path / "bits.npz", images=bits)
    monkeypatch.setattr("gen_jax.data.pixels._STRETCH", 16_000)
    data.load(DataConfig(path, size=(4, 5)))
    monkeypatch.setattr("gen_jax.data.pixels.available", lambda: 31_000)
    with pytest.raises(ValueError, match=r"bits.npz: images of two values are kept .*; accepted: "):
        data.load(DataConfig(path, size=(4, 5)))
    assert data.load(DataConfig(path, size=(4, 5), values="levels")).levels == 2


def test_a_large_image_needs_no_memory_after_it_is_resized(tmp_path: Path):
    """All originals at once would be 40 times what one and the small ones take."""
    for i in range(40):
        Image.fromarray(np.full((400, 500), 100 + i, np.uint8)).save(tmp_path / f"{i}.png")
    tracemalloc.start()
    data.load(DataConfig(str(tmp_path), size=(8, 8)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 400 * 500
