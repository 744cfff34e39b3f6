"""What other formats make of the same images."""

import io

import numpy as np
import pytest
from PIL import Image

from gen_jax.scripts import formats


@pytest.mark.parametrize(("levels", "channels"), [(2, 1), (17, 1), (256, 3), (5, 2), (1000, 1)])
def test_what_other_formats_make_of_them(levels, channels, monkeypatch):
    """Each is what a reader gives back: the sizes are those of files that hold the images."""
    images = np.random.default_rng(0).integers(0, levels, (5, 6, 7, channels)).astype(np.uint16)
    saved = []
    save = Image.Image.save

    def keep(self, file, **options):
        save(self, file, **options)
        saved.append((self, file.getvalue(), options["format"]))

    monkeypatch.setattr(Image.Image, "save", keep)
    sizes = formats.sizes(images, levels)
    assert set(sizes) >= {"xz"} | (
        {"PNG, each image", "PNG, one sheet"} if levels <= 256 else set()
    )
    assert min(sizes.values()) > 0
    for picture, content, kind in saved:
        found = np.asarray(Image.open(io.BytesIO(content)).convert(picture.mode))
        np.testing.assert_array_equal(found, np.asarray(picture), err_msg=kind)
    pngs = [np.asarray(picture) for picture, _, kind in saved if kind == "PNG"]
    if levels <= 256:
        assert sum(png.size for png in pngs[:5]) == images.size
        first = images[0] if channels == 3 else images[0].transpose(0, 2, 1).reshape(6, -1)
        np.testing.assert_array_equal(pngs[0].astype(int), first)


def test_a_format_that_fails_is_left_out(monkeypatch):
    """And JPEG XL, whose plugin takes no bits, is given bytes of two levels."""
    modes = []

    def save(picture, file, filename):
        modes.append(picture.mode)
        if picture.size != (4, 4):
            raise NotImplementedError("no sheets")
        file.write(b"12")

    monkeypatch.setitem(Image.SAVE, "JXL", save)
    sizes = formats.sizes(np.eye(4, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(3, 0), 2)
    assert sizes["JPEG XL, each image"] == 6
    assert "JPEG XL, one sheet" not in sizes
    assert set(sizes) >= {"PNG, one sheet", "xz"}
    assert modes == ["L"] * 4
