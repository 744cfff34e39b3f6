"""What other lossless formats make of the same images, in bytes."""

import contextlib
import importlib
import io
import lzma
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

import numpy as np
from PIL import Image

_LONGEST = 16383  # side of a WebP


def sizes(images: np.ndarray, levels: int) -> Mapping[str, int]:
    """Bytes by format, of images `[B, H, W, C]`: pictures each by itself, then all on one sheet.

    Above 256 levels there are no pictures. General compressors take all levels as bytes, or as
    bits where there are two; whichever is smaller. A format that fails is left out.
    """
    found: dict[str, int] = {}
    if levels <= 256:
        pictures = [_picture(image, levels) for image in images]
        sheet = _picture(_sheet(images), levels)
        for name, save in dict(_picture_formats()).items():
            # Whatever a plugin raises: the comparison is beside the point of the script.
            with contextlib.suppress(Exception):
                found[f"{name}, each image"] = sum(_size(picture, save) for picture in pictures)
            if max(sheet.size) <= _LONGEST:
                with contextlib.suppress(Exception):
                    found[f"{name}, one sheet"] = _size(sheet, save)
    raw = [images.astype("u1" if levels <= 256 else "<u2").tobytes()]
    if levels == 2:
        raw.append(np.packbits(images.astype(bool)).tobytes())
    for name, compress in dict(_compressors()).items():
        with contextlib.suppress(Exception):
            found[name] = min(len(compress(content)) for content in raw)
    return found


def _picture_formats() -> Iterator[tuple[str, Mapping[str, object]]]:
    """How Pillow saves each."""
    yield "PNG", {"format": "PNG", "optimize": True}
    Image.init()
    if "WEBP" in Image.SAVE:
        yield "WebP", {"format": "WEBP", "lossless": True, "quality": 100, "method": 6}
    _optional("pillow_jxl")  # it makes a format known
    if "JXL" in Image.SAVE:
        yield "JPEG XL", {"format": "JXL", "lossless": True, "effort": 9}


def _compressors() -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    yield "xz", lambda content: lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    zstd = _optional("compression.zstd") or _optional("zstandard")
    if zstd is not None:
        yield "zstd", lambda content: zstd.compress(content, 19)


def _optional(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _picture(levels_of: np.ndarray, levels: int) -> Image.Image:
    """`[H, W, C]`: levels as they are, one bit each where there are two; colours of three."""
    if levels_of.shape[-1] == 3:
        return Image.fromarray(levels_of.astype(np.uint8))
    height, width, channels = levels_of.shape
    grey = np.moveaxis(levels_of, -1, 1).reshape(height, channels * width)
    if levels == 2:
        return Image.fromarray(grey.astype(np.uint8) * 255).convert("1")
    return Image.fromarray(grey.astype(np.uint8))


def _sheet(images: np.ndarray) -> np.ndarray:
    """All images side by side, about square; 0 where there is none."""
    count, height, width, channels = images.shape
    columns = max(int(np.ceil(np.sqrt(count))), 1)
    down = max(-(-count // columns), 1)
    padded = np.zeros((down * columns, height, width, channels), images.dtype)
    padded[:count] = images
    grid = padded.reshape(down, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(down * height, columns * width, channels)


def _size(picture: Image.Image, options: Mapping[str, object]) -> int:
    if options["format"] == "JXL" and picture.mode == "1":  # which its plugin does not take
        picture = picture.convert("L")
    file = io.BytesIO()
    picture.save(file, **options)  # pyright: ignore[reportArgumentType]
    return len(file.getvalue())
