"""Image files to stored values, by Pillow."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gen_jax.data.config import MAX_VALUE, DataConfig
from gen_jax.data.sources.source import counted, reading

# Of the formats that Pillow opens: documents, films, and stubs that it cannot decode by itself.
_NOT_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}


def suffixes() -> frozenset[str]:
    """The endings of names, in lower case, of the pictures that this Pillow reads."""
    formats = Image.registered_extensions()
    opened = {*Image.OPEN, "MPO"} - _NOT_PICTURES  # MPO is opened as JPEG
    return frozenset(suffix for suffix, kind in formats.items() if kind in opened)


class Decoder:
    """Decodes pictures, and counts what must be said of them.

    `channels`: 1 or more than 1, where a set declares them. By default as the picture has them: a
    palette image is its colours, grey if all of them are; 1-bit images become 0 and 255; what is
    transparent shows the background. With values='levels' the values as stored, and a palette's
    indices. `turn`: to what a viewer shows, by EXIF.
    """

    def __init__(self, config: DataConfig, channels: int | None = None, turn: bool = False):
        self.coloured = False
        """Whether a palette held colours."""
        self._levels = config.values == "levels"
        self._as_stored = self._levels or config.maximum is not None  # not stretched to the type
        self._background, self._white = config.background, config.maximum or MAX_VALUE
        self._channels, self._turn = channels, turn
        self._transparent: list[str] = []
        self._several: list[str] = []
        self._palettes: list[str] = []

    def decode(self, content: bytes, name: str) -> np.ndarray:
        """[H, W, 1 or 3], uint8 or uint16. ValueError that names the file."""
        with reading(name):
            opened = _opened(content)
        if opened is None:
            what = "no image that Pillow knows" if content else "empty"
            raise ValueError(f"{name} is {what}; accepted: a whole picture")
        with reading(name), opened as image:
            deep = _is_cut(image, content)
            scale = _scale(image)
            if getattr(image, "is_animated", False):
                self._several.append(name)
            image.load()
            if self._turn:
                image = _turned(image)
        if deep:
            raise ValueError(
                f"{name} has more than 8 bits a colour, of which Pillow keeps 8; accepted: such "
                "images as uint16 [N, H, W, C] in a .npz, or as 8-bit files"
            )
        if image.mode == "F":
            raise ValueError(f"{name} has floating-point pixels; accepted: 8- and 16-bit integers")
        if image.mode.startswith("I"):
            return self._sixteen_bits(image, scale, name)
        if self._levels and image.mode != "PA" and not _is_opaque(image):
            raise ValueError(
                f"{name} is transparent, for which values='levels' has no level; accepted: opaque "
                "images, or values='intensity'"
            )
        with reading(name):
            pixels = self._stored(image, name) if self._levels else self._colours(image, name)
        if scale != 1 and self._as_stored:
            pixels = np.rint(pixels * scale).astype(np.uint8)
        return pixels

    def notes(self) -> Iterator[str]:
        if self._transparent:
            other = "white" if self._background == "black" else "black"
            yield (
                f"{counted(self._transparent, 'image')} with transparency on {self._background}"
                f" (background={other!r} for {other}), such as {self._transparent[0]!r}"
            )
        if self._palettes:
            what = "indices" if self._levels else "colours (values='levels' for their indices)"
            yield (
                f"{counted(self._palettes, 'palette image')} read as {what}, such as"
                f" {self._palettes[0]!r}"
            )

    def omissions(self) -> Iterator[str]:
        if self._several:
            yield (
                f"{counted(self._several, 'file')} with several frames, of which the first is read,"
                f" such as {self._several[0]!r}"
            )

    @property
    def put_on_black(self) -> bool:
        """Whether there were transparent images, and black came below them."""
        return bool(self._transparent) and self._background == "black"

    def _sixteen_bits(self, image: Any, scale: float, name: str) -> np.ndarray:
        pixels = np.asarray(image)
        if scale != 1 and self._as_stored:
            pixels = np.rint(pixels * scale).astype(np.int32)
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high > MAX_VALUE:
            raise ValueError(f"{name} has values {low} to {high}; accepted: 0 to {MAX_VALUE}")
        transparent = image.info.get("transparency")
        if isinstance(transparent, int) and not self._levels and (pixels == transparent).any():
            self._transparent.append(name)
            below = self._white if self._background == "white" else 0
            pixels = np.where(pixels == transparent, below, pixels)
        return pixels.astype(np.uint16)[..., None]

    def _stored(self, image: Any, name: str) -> np.ndarray:
        if image.mode in ("P", "PA"):
            self._palettes.append(name)
            return np.asarray(image).reshape(image.height, image.width, -1)[..., :1]
        gray = self._is_gray(image)
        pixels = np.asarray(image.convert("L" if gray else "RGB"))
        return pixels[..., None] if gray else pixels

    def _colours(self, image: Any, name: str) -> np.ndarray:
        palette = image.mode in ("P", "PA")
        if image.has_transparency_data:
            gray = self._is_gray(image)
            image = image.convert("RGBA")
            if not _is_opaque(image):
                self._transparent.append(name)
                below = Image.new("RGBA", image.size, self._background)
                image = Image.alpha_composite(below, image)
            image = image.convert("L" if gray else "RGB")
        if palette:
            pixels = np.asarray(image.convert("RGB"))
            if self._channels is None and (pixels == pixels[..., :1]).all():
                return pixels[..., :1]
            self.coloured |= self._channels is None
            self._palettes.append(name)
            image = Image.fromarray(pixels)
        gray = self._is_gray(image)
        mode = "L" if gray else "RGB"
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        return pixels[..., None] if gray else pixels

    def _is_gray(self, image: Any) -> bool:
        return self._channels == 1 if self._channels else image.mode in ("1", "L", "LA", "La")


def _opened(content: bytes) -> Any:
    """An image yet to be decoded; None if it is none that Pillow knows."""
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        return None


def _is_opaque(image: Any) -> bool:
    return "A" not in image.getbands() or image.getchannel("A").getextrema()[0] == 255


def _turned(image: Any) -> Any:
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # EXIF that cannot be read turns nothing
        return ImageOps.exif_transpose(image)
    return image


def _raw_mode(image: Any) -> str:
    """How the file stores pixels, before they are loaded: 'RGB;16B', 'L;4', …"""
    for _, _, _, arguments in image.tile:
        mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        if isinstance(mode, str):
            return mode
    return ""


def _is_cut(image: Any, content: bytes) -> bool:
    """Whether Pillow would keep the upper 8 of more bits only, which it does without a word."""
    if image.mode.startswith(("I", "F")):
        return False
    if image.format == "PPM":
        return _ppm_maximum(image) > 255
    if image.format == "JPEG2000":
        start = content.find(b"\xff\x4f\xff\x51")  # the codestream's size segment
        return start >= 0 and (content[start + 42] & 127) + 1 > 8
    if image.format == "AVIF":
        start = content.find(b"av1C")  # the codec's configuration, whose third byte says it
        return start >= 0 and bool(content[start + 6] & 64)
    return ";16" in _raw_mode(image) or any(tile[0] == "SGI16" for tile in image.tile)


def _ppm_maximum(image: Any) -> int:
    arguments = image.tile[0][3]
    last = arguments[-1] if isinstance(arguments, tuple) else None
    if isinstance(last, int) and last > 0:
        return last
    return MAX_VALUE if image.mode == "I" else 255  # the type's, which Pillow reads as it is


def _scale(image: Any) -> float:
    """What makes the stored values of those that Pillow stretches to 0 … 255."""
    if image.mode == "1":
        return 1 / 255
    packed = re.match(r"L;(2|4)", _raw_mode(image))
    if packed:
        return (2 ** int(packed[1]) - 1) / 255
    if image.format == "PPM":
        return _ppm_maximum(image) / (MAX_VALUE if image.mode == "I" else 255)
    return 1.0
