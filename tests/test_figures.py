"""Pictures show the levels that they are given, where they belong."""

import errno
import io
import os
import subprocess
import sys

import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from gen_jax import figures, likelihoods, models

from .cases import by_site, every_model, generation_order, make, some_images

pytestmark = pytest.mark.quick


def test_levels_become_grey_values_from_black_to_white():
    levels = np.arange(17, dtype=np.uint8).reshape(1, 1, 17, 1)
    rgb = figures.to_rgb(levels, 17)
    assert rgb.shape == (1, 1, 17, 3)
    assert rgb[0, 0, 0].tolist() == [0, 0, 0]
    assert rgb[0, 0, 16].tolist() == [255, 255, 255]
    assert (np.diff(rgb[0, 0, :, 0].astype(int)) > 0).all()


def test_bars_are_as_long_as_their_values(tmp_path):
    path = figures.save_bars({"ours": 1.0, "theirs": 2.0}, "bits/dim", tmp_path / "bars.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0] > 100).sum(axis=1).max()
    grey = (np.abs(pixels - [184, 192, 204]).sum(axis=-1) < 6).sum(axis=1).max()
    assert blue > 100
    assert abs(grey - 2 * blue) <= 4


def test_a_picture_is_whole_or_the_one_before(tmp_path, monkeypatch):
    images, path = np.zeros((1, 2, 2, 1), np.uint8), tmp_path / "p.png"
    before = figures.save_grid(images, 2, path).read_bytes()

    def full(image, file, **options):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*p\.png'"):
        figures.save_grid(images, 2, path)
    assert [file.name for file in tmp_path.iterdir()] == ["p.png"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_lie_side_by_side_in_every_picture(tmp_path, channels):
    images = np.arange(2 * 3 * 2 * channels).reshape(2, 3, 2, channels) % 6
    rgb = figures.to_rgb(images, 6)
    assert rgb.shape == (2, 3, 2 * channels, 3)
    for channel in range(channels):
        part = rgb[:, :, 2 * channel : 2 * channel + 2]
        assert (part == 51 * images[..., channel, None]).all()
    known = np.zeros((3, 2, channels), bool)
    known[..., 1] = True  # the second channel
    path = figures.save_completions(images, known, [images], 6, tmp_path / "c.png")
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    width = 2 * channels + 1
    zoom = pixels.shape[1] // (3 * width + 1)
    shown = pixels[zoom // 2 :: zoom, zoom // 2 :: zoom][1:4, 1 + width : 2 * width]
    assert (shown[:, 2:4] == rgb[0, :, 2:4]).all()
    assert (shown[:, :2] == figures._TO_COME).all()
    figures.save_grid(images, 6, tmp_path / "grid.png")
    figures.save_strips({"a": images, "b": images}, 6, tmp_path / "rows.png")
    figures.save_site_map(images, -np.ones((2, 3, 2, channels)), 6, tmp_path / "map.png")
    drawn = np.broadcast_to(known, (4, *images.shape))
    figures.save_animation(np.stack([images] * 4), drawn, 6, tmp_path / "a.gif")


def test_a_grid_holds_every_image_in_reading_order(tmp_path):
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * np.ones((1, 3, 2, 1), np.uint8)
    path = figures.save_grid(images, 6, tmp_path / "grid.png", columns=3)
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    zoom = pixels.shape[1] // (3 * 3 + 1)
    small = pixels[zoom // 2 :: zoom, zoom // 2 :: zoom]
    assert small.shape == (2 * 4 + 1, 3 * 3 + 1, 3)
    for i in range(6):
        row, column = (i // 3) * 4 + 1, (i % 3) * 3 + 1
        assert (small[row : row + 3, column : column + 2] == 51 * i).all()


def test_completions_hide_what_is_not_known(tmp_path):
    originals = np.ones((2, 4, 4, 1), np.uint8)
    known = (np.arange(4) < 2)[:, None, None]
    completions = [np.zeros_like(originals)] * 3
    path = figures.save_completions(originals, known, completions, 2, tmp_path / "c.png")
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    zoom = pixels.shape[1] // (5 * 5 + 1)
    small = pixels[zoom // 2 :: zoom, zoom // 2 :: zoom]
    assert (small[1:5, 1:5] == 255).all()  # the original
    assert (small[1:3, 6:10] == 255).all()  # its known half
    assert (small[3:5, 6:10] != 255).any()
    assert (small[1:5, 11:15] == 0).all()  # a completion


def test_an_animation_has_a_frame_for_each_canvas(tmp_path):
    drawn = np.arange(4)[:, None, None, None, None] > np.arange(3)[None, None, :, None, None]
    drawn = np.broadcast_to(drawn, (4, 2, 3, 3, 1))
    canvases = np.where(drawn, 1, 0).astype(np.uint8)
    path = figures.save_animation(canvases, drawn, 2, tmp_path / "a.gif")
    with Image.open(path) as animation:
        assert getattr(animation, "n_frames", 1) == 4


def test_curves_and_site_maps_are_pictures(tmp_path):
    curve = {"train": ([1, 2, 3], [3.0, 2.0, 1.5])}
    figures.save_curves(curve, tmp_path / "curve.png", x_label="step", y_label="bits/dim")
    images = np.zeros((2, 4, 4, 1), np.uint8)
    figures.save_site_map(images, -np.ones((2, 4, 4, 1)), 2, tmp_path / "map.png")
    for name in ("curve.png", "map.png"):
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture).std() > 0


def test_regions_have_the_colours_of_their_names(tmp_path):
    panel = np.array([[0, 1], [2, 1]])
    colours = {"a": "#ff0000", "b": "#00ff00", "c": "#0000ff"}
    path = figures.save_regions({"one": panel, "two": panel}, colours, tmp_path / "regions.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    counts = [(pixels == np.array(rgb)).all(axis=1).sum() for rgb in np.eye(3, dtype=int) * 255]
    # Two cells of b for one of a and one of c, in both panels; the legend adds a little of each.
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.1)
    assert counts[2] == pytest.approx(counts[0], rel=0.1)


# Canvases.


@pytest.mark.parametrize("case", ["bernoulli", "categorical-rgb", "mixture-rgb"])
@every_model
def test_canvases_show_the_image_in_generation_order(name, case):
    """From empty to whole, each frame extends the last, n sites of the order after n."""
    model = make(name, case)
    rng = np.random.default_rng(0)
    images = rng.integers(1, model.likelihood.levels, (2, *model.image_shape)).astype(np.uint8)
    order = generation_order(model)
    frames, drawn = figures.frames(images, order, order.size + 1)
    assert frames.shape == drawn.shape == (order.size + 1, *images.shape)
    assert frames.dtype == images.dtype
    assert not drawn[0].any()
    assert not frames[0].any()
    assert drawn[-1].all()
    np.testing.assert_array_equal(frames[-1], images)
    np.testing.assert_array_equal(frames, np.where(drawn, images, 0))
    for n, site in enumerate(order):
        assert not (drawn[n] & ~drawn[n + 1]).any()
        new = by_site(model, drawn[n + 1] & ~drawn[n])
        assert new[:, site].all()
        assert new.sum() == new[:, site].size
    few, few_drawn = figures.frames(images, order, 4)
    assert len(few) == 4
    np.testing.assert_array_equal(few[-1], images)
    assert not few_drawn[0].any()


def test_canvases_of_a_completion_start_from_what_is_known():
    model = make("GatedPixelCNN", "categorical-rgb")
    images = np.asarray(some_images(model, 2), np.uint8)
    known = np.array([True, False, False])
    order = generation_order(model)
    frames, drawn = figures.frames(images, order, 3, known)
    np.testing.assert_array_equal(drawn[0], np.broadcast_to(known, images.shape))
    np.testing.assert_array_equal(frames[0], np.where(known, images, 0))
    np.testing.assert_array_equal(frames[-1], images)


BINARY = models.PixelCNN((2, 3, 1), likelihoods.Bernoulli())


def test_a_notebook_is_shown_a_grid_of_a_models_images():
    images = np.zeros((4, 2, 3, 1), np.uint8)
    images[1, 0, 2] = images[2, 1, 0] = 1
    figure = figures.show(images, BINARY)
    assert isinstance(figure, matplotlib.figure.Figure)
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:
        pixels = np.asarray(picture.convert("L"))
    zoom = pixels.shape[1] // 9  # two columns of three pixels, and three borders
    assert pixels.shape == (7 * zoom, 9 * zoom)
    small = pixels[zoom // 2 :: zoom, zoom // 2 :: zoom]
    tiles = [small[1:3, 1:4], small[1:3, 5:8], small[4:6, 1:4], small[4:6, 5:8]]
    np.testing.assert_array_equal(np.stack(tiles), 255 * images[..., 0])
    # In one row; and one image, of what is expected of its levels.
    row = figures.show(images, BINARY, columns=4).get_size_inches()
    assert row[0] > 2 * row[1]
    assert figures.show(jnp.full((2, 3, 1), 0.5), BINARY).axes


def test_a_notebook_keeps_its_backend(tmp_path):
    """Nothing asks for one, and no figure is left open in pyplot."""
    code = """
import matplotlib, sys
matplotlib.use("svg")
from gen_jax import figures
figures.save_curves({"a": ([1, 2], [1, 2])}, sys.argv[1], x_label="", y_label="")
print(matplotlib.get_backend(), "matplotlib.pyplot" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "curves.png"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["svg", "False"]


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (np.zeros((4, 3, 2, 1), np.uint8), r"images has shape \(4, 3, 2, 1\); accepted by this"),
        (np.zeros((0, 2, 3, 1), np.uint8), r"images has shape \(0, 2, 3, 1\)"),
        (np.full((2, 2, 3, 1), 7), r"images has levels 7 … 7; accepted: 0 … 1"),
        (np.full((2, 2, 3, 1), np.nan), r"images has levels nan … nan"),
    ],
)
def test_images_of_another_model_are_refused(images, complaint):
    with pytest.raises(ValueError, match=complaint):
        figures.show(images, BINARY)
