"""Image data sets as stored: digits, TFDS without TensorFlow, .npz, folders of images."""

import contextlib
import dataclasses
import difflib
import importlib
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

Progress = Callable[[int, int], None]
Images = np.ndarray | list[np.ndarray]  # a list while the shapes differ
SPLITS = ("train", "validation", "test")

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".webp"})
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Source:
    """A set as stored: what is there of train, validation and test, and how to make the rest."""

    images: dict[str, Images]
    labels: dict[str, np.ndarray | None]
    levels: int
    num_classes: int | None = None
    held_out: dict[str, int] = dataclasses.field(default_factory=dict)
    order: Literal["random", "fixed", "stored"] = "random"


def read(name: str, data_dir: str | None, resized: bool, progress: Progress) -> Source:
    """Finds a set by name. Of a TFDS set and a folder so named, the prepared TFDS set wins.

    Unless `resized` later, all images must have one size. ValueError if it cannot be read.
    """
    if name == "digits":
        return _read_digits()
    path = Path(name).expanduser()
    if path.suffix == ".npz":
        return _read_npz(path)
    looks_like_path = name.startswith(("/", ".", "~"))
    folder = None if looks_like_path else _tfds_folder(name, data_dir)
    if folder is not None:
        return _read_tfds(name, folder, resized, progress)
    if path.is_dir():
        return _read_folder(path, resized, progress)
    if path.is_file():
        raise ValueError(f"data set {str(path)!r} is a file, but neither a .npz nor a folder")
    if looks_like_path:
        raise ValueError(f"data set {str(path)!r}: no such .npz or folder of images")
    raise ValueError(unknown(name, tfds_dir(data_dir)))


def _read_digits() -> Source:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images, labels = digits.images.astype(np.uint8)[..., None], digits.target.astype(np.int32)
    held_out = {"validation": 250, "test": 250}
    return Source({"train": images}, {"train": labels}, 17, 10, held_out, "fixed")


def _read_npz(path: Path) -> Source:
    if not path.is_file():
        raise ValueError(f"data set {str(path)!r}: no such file")
    with (
        _reading(str(path)),
        path.open("rb") as stream,
        np.load(stream, allow_pickle=False) as file,
    ):
        arrays = {key: np.asarray(file[key]) for key in file.files}
    for key in ("images", "labels", "target"):  # all of it is train, at first
        if key in arrays:
            arrays[f"train_{key}"] = arrays.pop(key)
    images = {
        key: _npz_images(path, arrays[f"{key}_images"])
        for key in SPLITS
        if f"{key}_images" in arrays
    }
    if "train" not in images:
        raise ValueError(
            f"{path} has no array 'images' (or 'train_images'): found {sorted(arrays) or 'none'}"
        )
    labels = {
        key: _npz_labels(
            path, arrays.get(f"{key}_labels", arrays.get(f"{key}_target")), len(images[key])
        )
        for key in images
    }
    if len({values is None for values in labels.values()}) > 1:
        raise ValueError(f"{path}: labels must be given for every split or for none")
    classes = [int(values.max()) + 1 for values in labels.values() if values is not None]
    levels = 2 ** (8 * images["train"].itemsize)
    return Source({**images}, labels, levels, max(classes, default=None))


def _npz_images(path: Path, images: np.ndarray) -> np.ndarray:
    if images.dtype not in (np.bool_, np.uint8, np.uint16):
        raise ValueError(
            f"{path}: images have dtype {images.dtype}: accepted are uint8, uint16 and bool"
        )
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(
            f"{path}: images have shape {images.shape}: accepted are [N, H, W] and [N, H, W, C],"
            " none of them 0"
        )
    images = images.astype(np.uint8) if images.dtype == np.bool_ else images
    return images if images.ndim == 4 else images[..., None]


def _npz_labels(path: Path, labels: np.ndarray | None, count: int) -> np.ndarray | None:
    if labels is None:
        return None
    if labels.dtype.kind not in "ui" or labels.shape != (count,) or labels.min() < 0:
        raise ValueError(
            f"{path}: labels are {labels.dtype} of shape {labels.shape}: accepted are {count}"
            " integers, one an image, none below 0"
        )
    return labels.astype(np.int32)


def _read_folder(path: Path, resized: bool, progress: Progress) -> Source:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise ValueError(f"folder {str(path)!r} holds no images ({' '.join(sorted(_SUFFIXES))})")
    names = [file.relative_to(path).parts[0] if file.parent != path else "" for file in files]
    classes = sorted(set(names))
    if "" in classes and len(classes) > 1:
        raise ValueError(
            f"folder {str(path)!r} mixes images and sub-folders of images, which would be classes"
        )
    images = []
    for done, file in enumerate(files):
        with _reading(str(file)):
            images.append(_decode(file.read_bytes()))
        if done % _CHUNK == 0:
            progress(done, len(files))
    progress(len(files), len(files))
    channels = max(image.shape[-1] for image in images)  # one coloured image makes all RGB
    images = [np.broadcast_to(image, (*image.shape[:2], channels)) for image in images]
    if classes == [""]:
        return Source({"train": _stack(path, images, resized)}, {"train": None}, 256)
    labels = np.array([classes.index(name) for name in names], np.int32)
    return Source({"train": _stack(path, images, resized)}, {"train": labels}, 256, len(classes))


def _tfds_folder(name: str, data_dir: str | None) -> Path | None:
    """data_dir/name[/config]/version, or None. TFDS itself fails misleadingly without it."""
    base, _, version = name.partition(":")
    folder = tfds_dir(data_dir) / base
    found = sorted(
        file.parent
        for file in [*folder.glob("*/dataset_info.json"), *folder.glob("*/*/dataset_info.json")]
        if version in ("", file.parent.name)
    )
    if len({path.parent for path in found}) > 1:
        raise ValueError(
            f"data set {name!r} has several configs in {folder}: name one of"
            f" {sorted({f'{base}/{path.parent.name}' for path in found})}"
        )
    numbers = [[int(part) for part in re.findall(r"\d+", path.name)] for path in found]
    return max(zip(numbers, found, strict=True))[1] if found else None


def _read_tfds(name: str, folder: Path, resized: bool, progress: Progress) -> Source:
    import tensorflow_datasets as tfds

    with _reading(str(folder)):
        builder: Any = tfds.builder_from_directory(folder)
        features, sizes = builder.info.features, builder.info.splits
        file_format = builder.info.file_format
    if file_format is not None and file_format.value != "array_record":
        raise ValueError(
            f"data set {name!r} is not prepared as array_record, but as {file_format.value}:"
            f" move {folder} away, then run `python -m experiments.prepare {name}`"
        )
    image_key = _feature(features, tfds.features.Image, "image")
    label_key = _feature(features, tfds.features.ClassLabel, "label")
    if image_key is None:
        raise ValueError(f"data set {name!r} has no image among its features {[*features]}")
    if "train" not in sizes:
        raise ValueError(f"data set {name!r} has no split 'train': found {[*sizes]}")
    if features[image_key].np_dtype != np.uint8:
        dtype = features[image_key].np_dtype
        raise ValueError(f"data set {name!r} has {dtype} images: only uint8 is accepted")

    for key in SPLITS:
        if key in sizes and not sizes[key].num_examples:
            raise ValueError(f"the {key} split of {name!r} is empty")
    total, done = sum(sizes[key].num_examples for key in SPLITS if key in sizes), 0
    channels = features[image_key].shape[-1]
    images: dict[str, Images] = {}
    labels: dict[str, np.ndarray | None] = {}
    for key in (key for key in SPLITS if key in sizes):
        pixels, classes = [], []
        # The bytes, and pillow: TFDS would decode 1-bit images to 0/1 or 0/255, as it happens.
        decoders = {image_key: tfds.decode.SkipDecoding()}
        with _reading(str(folder)):
            source = builder.as_data_source(key, decoders=decoders)
            for start in range(0, len(source), _CHUNK):
                indices = list(range(start, min(start + _CHUNK, len(source))))
                rows = source.__getitems__(indices)
                pixels += [_decode(row[image_key], channels) for row in rows]
                classes += [row[label_key] for row in rows] if label_key else []
                done += len(rows)
                progress(done, total)
        images[key] = _stack(folder, pixels, resized)
        labels[key] = np.array(classes, np.int32) if label_key else None
    num_classes = features[label_key].num_classes if label_key else None
    if builder.info.name == "mnist":
        return Source(images, labels, 256, num_classes, {"validation": 10_000}, "stored")
    return Source(images, labels, 256, num_classes)


def _feature(features: Any, kind: type, default: str) -> str | None:
    """The key of the feature of that kind: the one with the default's name, or the only one."""
    found = [key for key, feature in features.items() if isinstance(feature, kind)]
    if default in found:
        return default
    return found[0] if len(found) == 1 else None


def _decode(data: bytes, channels: int | None = None) -> np.ndarray:
    """[H, W, 1 or 3]; without `channels` as the image has it; 1-bit images become 0 and 255."""
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"it has pixels of mode {image.mode}: only 8 bits are accepted")
        gray = channels == 1 if channels else image.mode in ("1", "L", "LA")
        pixels = np.asarray(image.convert("L" if gray else "RGB"))
    return pixels[..., None] if gray else pixels


def _stack(path: Path, images: list[np.ndarray], resized: bool) -> Images:
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1 and not resized:
        raise ValueError(
            f"{path}: images differ in size, such as {shapes[0][:2]} and {shapes[-1][:2]}:"
            " set size to (height, width)"
        )
    return np.stack(images) if len(shapes) == 1 else images


def tfds_dir(data_dir: str | None = None) -> Path:
    """The folder of the prepared TFDS sets: the argument, $TFDS_DATA_DIR, or TFDS's default."""
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(folder).expanduser()


def prepare(name: str, data_dir: str | None = None) -> Path:
    """Downloads and writes a TFDS set as array_record by its own builder, which needs TensorFlow.

    Returns the set's folder. Raises ValueError without TensorFlow, or if TFDS has no such set.
    """
    try:
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise ValueError(
            "preparing a TFDS set needs TensorFlow (reading it does not):"
            " pip install 'gen_jax[prepare]'"
        ) from error
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=tfds_dir(data_dir), file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(unknown(name)) from error
    builder.download_and_prepare()
    return Path(builder.data_dir)


def unknown(name: str, folder: Path | None = None) -> str:
    """Why a name is no data set here: known to TFDS but not prepared, or not known at all."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    base = re.split("[/:]", name)[0]
    if base in known and folder is not None:
        return (
            f"data set {name!r} is not prepared in {folder}: run `python -m experiments.prepare"
            f" {name}` (it needs gen_jax[prepare]), or set TFDS_DATA_DIR to the folder that has it"
        )
    close = difflib.get_close_matches(base, ["digits", *known], 3)
    hint = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
    return (
        f"unknown data set {name!r}{hint}: accepted are 'digits', the name of a TFDS image set,"
        " a path to a .npz, and a path to a folder of images"
    )


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Whatever a reader raises on a damaged file (RuntimeError, BadZipFile, …) as a ValueError."""
    try:
        yield
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{what} cannot be read, is it complete? {type(error).__name__}: {reason}"
        ) from error
