"""Image files to stored values: colours, transparency, depth, orientation."""

import base64
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from gen_jax import data
from gen_jax.data import DataConfig, Dataset
from tests.image_sets import gray

Make = Callable[[int], Image.Image]


def saved(folder: Path, make: Make, suffix: str = "png", count: int = 10, **options) -> str:
    for i in range(count):
        make(i).save(folder / f"{i}.{suffix}", **options)
    return str(folder)


def values(dataset: Dataset) -> set[int]:
    splits = (dataset.train, dataset.validation, dataset.test)
    return {int(value) for split in splits for value in np.unique(split.images)}


def png(pixels: np.ndarray, bits: int, colour_type: int) -> bytes:
    """A PNG of a depth that Pillow does not write."""
    rows = []
    for row in pixels.reshape(len(pixels), -1):
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows.append(b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big"))

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", pixels.shape[1], len(pixels), bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


def tiff_of_16_bit_colours(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    content = pixels.astype("<u2").tobytes()
    bits = 8 + len(content)
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 2), (273, 8), (277, 3)]
    tags += [(278, height), (279, len(content))]
    entries = b"".join(
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value)
        for tag, value in tags
    )
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    depths = struct.pack("<HHHxx", 16, 16, 16)
    return b"II*\0" + struct.pack("<I", bits + len(depths)) + content + depths + directory


COLOURS = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]


def label_map(i: int, colours: list[tuple[int, int, int]] = COLOURS) -> Image.Image:
    image = Image.fromarray((gray(1, seed=i)[0] % len(colours)).astype(np.uint8))
    image.putpalette([value for colour in colours for value in colour])
    return image


def test_a_palette_image_is_its_colours_or_its_indices(tmp_path: Path):
    path = saved(tmp_path, label_map)
    dataset = data.load(path)
    assert (dataset.levels, dataset.image_shape) == (256, (6, 5, 3))
    assert {tuple(pixel) for pixel in dataset.train.images.reshape(-1, 3)} == {*COLOURS}
    assert any("10 palette images read as colours" in note for note in dataset.notes)
    dataset = data.load(DataConfig(path, values="levels"))
    assert (dataset.levels, dataset.image_shape) == (4, (6, 5, 1))
    stored = {(gray(1, seed=i)[0] % 4).tobytes() for i in range(10)}
    assert {image.tobytes() for image in dataset.train.images} <= stored
    assert data.load(DataConfig(path, values="levels", levels=21)).levels == 21
    with pytest.raises(
        ValueError,
        match=r"levels is 3; accepted, for the largest value of .*, 3, with values='levels': 4",
    ):
        data.load(DataConfig(path, values="levels", levels=3))


def test_a_grey_palette_is_grey_and_a_black_and_white_one_binary(tmp_path: Path):
    ramp = [(64 * i, 64 * i, 64 * i) for i in range(4)]
    dataset = data.load(saved(tmp_path, lambda i: label_map(i, ramp)))
    assert (dataset.levels, dataset.image_shape) == (256, (6, 5, 1))
    assert values(dataset) == {0, 64, 128, 192}
    bits = data.load(saved(tmp_path, lambda i: label_map(i, [(0, 0, 0), (255, 255, 255)])))
    assert (bits.levels, bits.image_shape) == (2, (6, 5, 1))


def halved(mode: str) -> Make:
    """Alpha 0 over colours that nobody sees, 51, and 255."""

    def make(i: int) -> Image.Image:
        pixels = np.full((6, 5, len(mode)), 100, np.uint8)
        pixels[:2, :, -1], pixels[2:4, :, -1], pixels[4:, :, -1] = 0, 51, 255
        pixels[0, 0, :-1] = i
        return Image.fromarray(pixels)

    return make


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_shows_the_background(tmp_path: Path, mode: str):
    path = saved(tmp_path, halved(mode))
    black = DataConfig(path, maximum=255)
    dataset = data.load(black)
    assert dataset.image_shape == (6, 5, 3 if mode == "RGBA" else 1)
    assert values(dataset) == {0, 20, 100}
    assert "10 images with transparency on black (background='white' for white)" in dataset.notes[0]
    assert values(data.load(DataConfig(path, background="white"))) == {255, 224, 100}
    with pytest.raises(ValueError, match=r"png is transparent, for which values='levels' has no"):
        data.load(DataConfig(path, values="levels"))


@pytest.mark.parametrize("sixteen", [False, True])
def test_a_transparent_value_or_index(tmp_path: Path, sixteen: bool):
    def make(i: int) -> Image.Image:
        return Image.fromarray((gray(1, seed=i)[0] % 4 * 60).astype("u2" if sixteen else "u1"))

    white = 65535 if sixteen else 255
    path = saved(tmp_path, make, transparency=60)
    config = DataConfig(path, background="white", maximum=white)
    assert values(data.load(config)) == {0, 120, 180, white}
    path = saved(tmp_path, label_map, transparency=1)  # red
    dataset = data.load(DataConfig(path, background="white"))
    seen = {tuple(pixel) for pixel in dataset.train.images.reshape(-1, 3)}
    assert seen == {(0, 0, 0), (255, 255, 255), (0, 255, 0), (0, 0, 255)}
    assert data.load(DataConfig(path, values="levels")).levels == 4


def test_icons_drawn_in_alpha_are_not_a_black_set(tmp_path: Path):
    def make(i: int) -> Image.Image:
        pixels = np.zeros((6, 5, 4), np.uint8)
        pixels[..., 3] = gray(1, seed=i)[0]
        return Image.fromarray(pixels)

    path = saved(tmp_path, make)
    with pytest.raises(
        ValueError, match=r"are black, .* transparency; accepted: background='white'"
    ):
        data.load(path)
    assert len(values(data.load(DataConfig(path, background="white")))) > 50


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_orientation_is_what_a_viewer_shows(tmp_path: Path, suffix: str):
    def make(i: int) -> Image.Image:
        pixels = np.zeros((16, 8), np.uint8)
        pixels[:8] = 200 + i
        return Image.fromarray(pixels)

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    dataset = data.load(saved(tmp_path, make, suffix, exif=exif))
    assert dataset.image_shape == (8, 16, 1)
    assert (dataset.train.images[:, :, 8:] > 150).all()
    assert (dataset.train.images[:, :, :8] < 50).all()


def test_sixteen_bit_grey(tmp_path: Path):
    def make(i: int) -> Image.Image:
        return Image.fromarray(gray(1, seed=i)[0].astype(np.uint16) * 257)

    dataset = data.load(saved(tmp_path, make))
    assert (dataset.levels, dataset.train.images.dtype) == (65536, np.uint16)
    assert values(dataset) <= {257 * i for i in range(256)}
    quantised = data.load(DataConfig(str(tmp_path), levels=256))
    np.testing.assert_array_equal(quantised.train.images, dataset.train.images // 256)
    Image.fromarray(gray(1)[0]).save(tmp_path / "8.png")
    with pytest.raises(ValueError, match=r"images of 8 bits and of 16 bits, which differ in white"):
        data.load(str(tmp_path))
    assert data.load(DataConfig(str(tmp_path), values="levels")).levels > 60_000


# 16 x 16 pixels of 10 bits a colour, by libavif.
AVIF = base64.b85decode(
    "0000WW^{RQVRmU|00000VRmU|ZE0pPZE0a<O+hh10002%ZDn*}000000000XXk=`10000000000aA{+7000000"
    "000000000000004sdC7Z2$lO000310016oY;R)#0000)000310RR910RR926951J8vp<RC~0YKW&i*H0003100"
    "0_kZf0cy000000RRADb}%tRZ)|UJ00000YH4tCZ~y=ROKEUpZvX%Q6lrsCWdHyG000005C8xG5C8xG5O8UDX#f"
    "BK00RmN3IG5A3}JRLLxCVb000006Ju{|a&BX6cmM(b0ssbp0000NX>e^}0000000001009I60)qqq001LxWMOm"
    "?015~=4FB7}fPthk4HtrA1i%3D000nmgMR"
)


def test_colours_of_more_than_eight_bits_are_refused_not_cut(tmp_path: Path):
    rgb = np.random.RandomState(0).randint(0, 65536, (6, 5, 3))
    files = {
        "rgb.png": png(rgb, 16, 2),
        "grey-alpha.png": png(rgb[..., :2], 16, 4),
        "rgb.ppm": b"P6 5 6 65535\n" + rgb.astype(">u2").tobytes(),
        "rgb.tif": tiff_of_16_bit_colours(rgb),
    }
    if features.check("avif"):
        files["rgb.avif"] = AVIF
    for name, content in files.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} has more than 8 bits .*uint16 .*npz, or as"):
            data.load(str(tmp_path))
        file.unlink()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_levels_as_they_are_of_few_bits(tmp_path: Path, bits: int):
    """Pillow stretches such values to 0 … 255."""
    stored = gray(10) % 2**bits
    expected = stored[np.random.RandomState(0).permutation(10)[:8]]
    (tmp_path / "png").mkdir()
    (tmp_path / "pgm").mkdir()
    for i, image in enumerate(stored):
        (tmp_path / "png" / f"{i}.png").write_bytes(png(image, bits, 0))
        header = f"P5 5 6 {2**bits - 1}\n".encode()
        (tmp_path / "pgm" / f"{i}.pgm").write_bytes(header + image.tobytes())
    for suffix in ("png", "pgm"):
        path = str(tmp_path / suffix)
        dataset = data.load(DataConfig(path, values="levels"))
        assert dataset.levels == 2**bits
        np.testing.assert_array_equal(dataset.train.images[..., 0], expected)
        white = data.load(DataConfig(path, maximum=2**bits - 1))
        np.testing.assert_array_equal(white.train.images[..., 0], expected)
        assert data.load(path).levels == (2 if bits == 1 else 256)


def test_twelve_bits_in_sixteen(tmp_path: Path):
    for i, image in enumerate(gray(10)):
        Image.fromarray(image.astype(np.uint16) * 16).save(tmp_path / f"{i}.tif")
    with pytest.warns(data.DataWarning, match=r"65535 white, the largest .*maximum to what is"):
        data.load(str(tmp_path))
    dataset = data.load(DataConfig(str(tmp_path), maximum=4095, levels=256))
    expected = gray(10)[np.random.RandomState(0).permutation(10)[:8]]
    np.testing.assert_array_equal(dataset.train.images[..., 0], expected)
    with pytest.raises(
        ValueError, match=r"maximum is 1000; accepted, for the largest value of .*: 4"
    ):
        data.load(DataConfig(str(tmp_path), maximum=1000))


def test_other_kinds_of_pixels(tmp_path: Path):
    for i in range(10):
        Image.fromarray(gray(1, (6, 5, 3), seed=i)[0]).convert("CMYK").save(tmp_path / f"{i}.jpg")
    assert data.load(str(tmp_path)).image_shape == (6, 5, 3)
    Image.fromarray(np.zeros((6, 5), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ValueError, match=r"f.tif has floating-point pixels; accepted:"):
        data.load(str(tmp_path))
    Image.fromarray(np.full((6, 5), 70_000, np.int32)).save(tmp_path / "f.tif")
    with pytest.raises(ValueError, match=r"f.tif has values 70000 to 70000; accepted: 0 to 655"):
        data.load(str(tmp_path))


def test_of_several_frames_the_first_is_read_and_that_is_said(tmp_path: Path):
    path = saved(
        tmp_path,
        lambda i: Image.fromarray(np.full((6, 5), 150 + i, np.uint8)),
        "gif",
        save_all=True,
        append_images=[Image.fromarray(np.zeros((6, 5), np.uint8))],
    )
    with pytest.warns(data.DataWarning, match=r"10 files with several frames, of which the first"):
        dataset = data.load(path)
    assert values(dataset) == {*range(150, 160)}
