"""Image data sets as stored: digits, TFDS without TensorFlow, .npz, folders of images."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from gen_jax import checks
from gen_jax.data.config import DataConfig
from gen_jax.data.pixels import Pixels
from gen_jax.data.sources import folders, npz, tfds
from gen_jax.data.sources.source import SPLITS, Progress, Source

__all__ = ["SPLITS", "Progress", "Source", "locate", "read"]

Kind = Literal["digits", "tfds", "npz", "folder"]


def read(config: DataConfig, pixels: Pixels, progress: Progress) -> Source:
    """Puts the images of a set into `pixels`. ValueError if it cannot be read."""
    kind, path = locate(config.name, config.data_dir)
    if kind == "digits":
        return _read_digits(pixels)
    if kind == "npz":
        return npz.read(path, pixels)
    if kind == "tfds":
        return tfds.read(config.name, path, pixels, progress)
    return folders.read(path, pixels, progress)


def locate(name: str, data_dir: str | None) -> tuple[Kind, Path]:
    """What a name stands for, and where. Of a TFDS set and a folder so named, the prepared TFDS
    set wins. ValueError if there is none."""
    if name == "digits":
        return "digits", Path()
    try:
        return _locate(name, data_dir)
    except OSError as error:  # no permission, or a name that is too long
        raise ValueError(f"name is {name!r}: {error.strerror}; accepted: {tfds.NAMES}") from error


def _locate(name: str, data_dir: str | None) -> tuple[Kind, Path]:
    path = checks.expanded("name", name)
    if path.suffix.lower() == ".npz" and not path.is_dir():
        if not path.is_file():
            raise ValueError(f"name is {name!r}, a file that is not there; accepted: {tfds.NAMES}")
        return "npz", path
    looks_like_path = name.startswith(("/", ".", "~"))
    folder = None if looks_like_path or not name else tfds.find(name, data_dir)
    if folder is not None:
        return "tfds", folder
    if name and path.is_dir():
        return "folder", path
    if name and path.is_file():
        raise ValueError(f"name is {name!r}, a file that is no .npz; accepted: {tfds.NAMES}")
    if looks_like_path:
        raise ValueError(f"name is {name!r}, a path where nothing is; accepted: {tfds.NAMES}")
    raise tfds.unknown(name, tfds.data_folder(data_dir))


def _read_digits(pixels: Pixels) -> Source:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    pixels.expect(len(images), images.shape[1:])
    pixels.take("train", images)
    return Source(
        {"train": digits.target.astype(np.int32)},
        white=16,
        num_classes=10,
        class_names=tuple("0123456789"),
        held_out={"validation": 250, "test": 250},
        order="fixed",
    )
