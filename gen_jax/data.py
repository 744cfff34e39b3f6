"""Data sets as integer levels in memory, and the order in which training sees them.

A set is decoded once (`load`), then Grain carries the position: element b of the pipeline is batch
number b, computed from (seed, b) alone. Items carried one by one through Grain's own shuffle and
batch cost 10 microseconds each, ten times more than all the rest.
"""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import importlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import grain
import numpy as np
from PIL import Image

from gen_jax.typing import Int, UInt

Binarize = Literal["static", "dynamic", "threshold"]
Progress = Callable[[int, int], None]
Images = np.ndarray | list[np.ndarray]  # a list while the shapes differ

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".webp"})
_CHUNK = 1024
_MAX_SEED = 2**32 - 1
_SPLITS = ("train", "validation", "test")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601
_STREAMS = {"train": 0, "validation": 1, "test": 2, "dynamic": 3}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and what is done to them: grayscale, then resize, then binarize or levels."""

    name: str = "digits"
    """'digits' (embedded), a TFDS name such as 'mnist' or 'name/config:version', a path to a .npz
    (`images`, optionally `labels`), or a path to a folder of images (sub-folders are classes)."""
    data_dir: str | None = None
    """Folder of the prepared TFDS sets; else $TFDS_DATA_DIR; else ~/tensorflow_datasets."""
    binarize: Binarize | None = None
    """static: one draw of each pixel, with probability intensity / maximum. dynamic: a new draw
    each time that a training image is seen; validation and test as static. threshold: above half.
    """
    levels: int | None = None
    """Quantise to this many levels (32 makes 5 bits of 8)."""
    size: tuple[int, int] | None = None
    """Resize to (height, width), bilinear with antialiasing. A binary set gets 256 levels by it."""
    grayscale: bool = False
    """Colours to luma (ITU-R 601)."""
    validation: int | None = None
    """Images held out of train where the set has no validation split: drawn at random, by default
    one in ten. MNIST: its last 10,000. digits: 250, by a permutation that no seed changes."""
    test: int | None = None
    """Likewise where the set has no test split."""
    seed: int = 0
    """Of the random split and of the static draws (validation and test of dynamic included)."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Levels `0 … levels - 1`, uint8 (uint16 above 256 levels), and class labels if there are."""

    images: UInt[np.ndarray, "B H W C"]
    labels: Int[np.ndarray, " B"] | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Three splits in memory, and what a result must say about them.

    `fingerprint` hashes all content and the rule of the batch order: together with the batch size
    and the seed of `train_iterator` it fixes every batch. Grain takes another set's state silently.
    """

    name: str
    levels: int
    binarization: str
    num_classes: int | None
    train: Split
    validation: Split
    test: Split
    intensities: UInt[np.ndarray, "B H W C"] | None = None
    """Dynamic binarization only: what `train_iterator` draws from (`train` is one such draw)."""
    intensity_levels: int | None = None
    fingerprint: str = ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


def load(config: DataConfig, progress: Progress | None = None) -> Dataset:
    """The data set, decoded into memory; `progress(done, total)` is called while images decode.

    Raises ValueError: unknown, unprepared or damaged set, or an option that the set cannot give.
    """
    _check(config)
    source = _read(config, progress or _silent)
    images, has = _intensities(config, source)
    _check_levels(config, has)
    splits = _split(config, source, images)

    levels = 2 if config.binarize else config.levels or has
    binarization, intensities = "none", None
    if has == 2:
        binarization = "static (as published)"
    elif config.binarize in ("static", "dynamic"):
        dynamic = config.binarize == "dynamic"
        binarization = "dynamic" if dynamic else f"static (seed {config.seed})"
        intensities = splits["train"].images if dynamic else None
        splits = {
            key: Split(_bernoulli(split.images, has - 1, config.seed, key), split.labels)
            for key, split in splits.items()
        }
    elif levels < has:
        binarization = "threshold" if levels == 2 else "none"
        table = (np.arange(has) * levels // has).astype(_dtype(levels))
        splits = {key: Split(table[split.images], split.labels) for key, split in splits.items()}
    dataset = Dataset(
        name=config.name,
        levels=levels,
        binarization=binarization,
        num_classes=source.num_classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        intensities=intensities,
        intensity_levels=None if intensities is None else has,
    )
    return dataclasses.replace(dataset, fingerprint=_fingerprint(dataset))


def train_iterator(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator[dict[str, np.ndarray]]:
    """Endless batches `{"images", "labels"?}` of the training split, with `get_state`/`set_state`.

    Every epoch is a new permutation, and the next one follows within the batch. `batch_size` is
    global: of the same order, each process gets its own `batch_size // process_count` rows.
    """
    rows = _own_rows(batch_size, process_index, process_count)
    _check_seed(seed)
    size, labels = len(dataset.train), dataset.train.labels

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.random.RandomState([seed, epoch]).permutation(size)

    def batch(number: int) -> dict[str, np.ndarray]:
        positions = number * batch_size + np.arange(rows.start, rows.stop)
        epochs = positions // size
        index = np.concatenate(
            [order(int(epoch))[positions[epochs == epoch] % size] for epoch in np.unique(epochs)]
        )
        if dataset.intensities is None or dataset.intensity_levels is None:
            images = dataset.train.images[index]
        else:
            maximum, start = dataset.intensity_levels - 1, int(positions[0])
            images = _bernoulli(dataset.intensities[index], maximum, seed, "dynamic", start)
        return {"images": images} if labels is None else {"images": images, "labels": labels[index]}

    # All is in memory: threads would only contend for the interpreter's lock.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(grain.MapDataset.range(2**40).map(batch).to_iter_dataset(options))


def eval_batches(
    split: Split, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> "EvalBatches":
    """Every example of a split once, in order: see `EvalBatches`."""
    _own_rows(batch_size, process_index, process_count)
    return EvalBatches(split, batch_size, process_index, process_count)


@dataclasses.dataclass(frozen=True)
class EvalBatches:
    """Batches `{"images", "labels"?, "mask"}`; iterate as often as you like, `len` counts them.

    The last one is padded with level 0 and label 0 to the batch size, where `mask` is False. Of
    `process_count` processes each gets its own `batch_size // process_count` rows.
    """

    split: Split
    batch_size: int
    process_index: int = 0
    process_count: int = 1

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        rows = _own_rows(self.batch_size, self.process_index, self.process_count)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            own = slice(start + rows.start, start + rows.stop)
            batch = {"images": self.split.images[own]}
            if self.split.labels is not None:
                batch["labels"] = self.split.labels[own]
            batch["mask"] = np.ones(len(batch["images"]), bool)
            yield {key: _pad(value, len(rows)) for key, value in batch.items()}


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
        raise ValueError(_unknown(name)) from error
    builder.download_and_prepare()
    return Path(builder.data_dir)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A set as stored: what is there of train, validation and test, and how to make the rest."""

    images: dict[str, Images]
    labels: dict[str, np.ndarray | None]
    levels: int
    num_classes: int | None = None
    held_out: dict[str, int] = dataclasses.field(default_factory=dict)
    order: Literal["random", "fixed", "stored"] = "random"


def _read(config: DataConfig, progress: Progress) -> _Source:
    """Of a TFDS set and a folder of the same name, the prepared TFDS set wins."""
    if config.name == "digits":
        return _read_digits()
    path = Path(config.name).expanduser()
    if path.suffix == ".npz":
        return _read_npz(path)
    looks_like_path = config.name.startswith(("/", ".", "~"))
    folder = None if looks_like_path else _tfds_folder(config)
    if folder is not None:
        return _read_tfds(config, folder, progress)
    if path.is_dir():
        return _read_folder(path, config.size is not None, progress)
    if path.is_file():
        raise ValueError(f"data set {str(path)!r} is a file, but neither a .npz nor a folder")
    if looks_like_path:
        raise ValueError(f"data set {str(path)!r}: no such .npz or folder of images")
    raise ValueError(_unknown(config.name, tfds_dir(config.data_dir)))


def _read_digits() -> _Source:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images, labels = digits.images.astype(np.uint8)[..., None], digits.target.astype(np.int32)
    held_out = {"validation": 250, "test": 250}
    return _Source({"train": images}, {"train": labels}, 17, 10, held_out, "fixed")


def _read_npz(path: Path) -> _Source:
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
        for key in _SPLITS
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
    return _Source({**images}, labels, levels, max(classes, default=None))


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


def _read_folder(path: Path, resized: bool, progress: Progress) -> _Source:
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
        return _Source({"train": _stack(path, images, resized)}, {"train": None}, 256)
    labels = np.array([classes.index(name) for name in names], np.int32)
    return _Source({"train": _stack(path, images, resized)}, {"train": labels}, 256, len(classes))


def _tfds_folder(config: DataConfig) -> Path | None:
    """data_dir/name[/config]/version, or None. TFDS itself fails misleadingly without it."""
    name, _, version = config.name.partition(":")
    folder = tfds_dir(config.data_dir) / name
    found = sorted(
        file.parent
        for file in [*folder.glob("*/dataset_info.json"), *folder.glob("*/*/dataset_info.json")]
        if version in ("", file.parent.name)
    )
    if len({path.parent for path in found}) > 1:
        raise ValueError(
            f"data set {config.name!r} has several configs in {folder}: name one of"
            f" {sorted({f'{name}/{path.parent.name}' for path in found})}"
        )
    numbers = [[int(part) for part in re.findall(r"\d+", path.name)] for path in found]
    return max(zip(numbers, found, strict=True))[1] if found else None


def _read_tfds(config: DataConfig, folder: Path, progress: Progress) -> _Source:
    import tensorflow_datasets as tfds

    with _reading(str(folder)):
        builder: Any = tfds.builder_from_directory(folder)
        features, sizes = builder.info.features, builder.info.splits
        file_format = builder.info.file_format
    if file_format is not None and file_format.value != "array_record":
        raise ValueError(
            f"data set {config.name!r} is not prepared as array_record, but as {file_format.value}:"
            f" move {folder} away, then run `python -m experiments.prepare {config.name}`"
        )
    image_key = _feature(features, tfds.features.Image, "image")
    label_key = _feature(features, tfds.features.ClassLabel, "label")
    if image_key is None:
        raise ValueError(f"data set {config.name!r} has no image among its features {[*features]}")
    if "train" not in sizes:
        raise ValueError(f"data set {config.name!r} has no split 'train': found {[*sizes]}")
    if features[image_key].np_dtype != np.uint8:
        dtype = features[image_key].np_dtype
        raise ValueError(f"data set {config.name!r} has {dtype} images: only uint8 is accepted")

    for key in _SPLITS:
        if key in sizes and not sizes[key].num_examples:
            raise ValueError(f"the {key} split of {config.name!r} is empty")
    total, done = sum(sizes[key].num_examples for key in _SPLITS if key in sizes), 0
    channels = features[image_key].shape[-1]
    images: dict[str, Images] = {}
    labels: dict[str, np.ndarray | None] = {}
    for key in (key for key in _SPLITS if key in sizes):
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
        images[key] = _stack(folder, pixels, config.size is not None)
        labels[key] = np.array(classes, np.int32) if label_key else None
    num_classes = features[label_key].num_classes if label_key else None
    if builder.info.name == "mnist":
        return _Source(images, labels, 256, num_classes, {"validation": 10_000}, "stored")
    return _Source(images, labels, 256, num_classes)


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


def _intensities(config: DataConfig, source: _Source) -> tuple[dict[str, np.ndarray], int]:
    """The images in grey and resized as asked, and their levels.

    A set that holds two values only, 0 and 1 or 0 and 255, is binary, and has one channel if all
    are equal. Mixing its pixels gives 256 levels.
    """
    stored = [image for images in source.images.values() for image in images]
    channels, levels = stored[0].shape[-1], source.levels
    if len({image.shape[-1] for image in stored}) > 1:
        raise ValueError(f"images of {config.name} differ in channels")
    size = config.size if any(image.shape[:2] != config.size for image in stored) else None
    binary = _two_valued(stored)
    one_channel = binary and all((image == image[..., :1]).all() for image in stored)
    gray = config.grayscale and channels != 1 and not one_channel
    if gray and channels != 3:
        raise ValueError(f"grayscale needs 1 or 3 channels: {config.name} has {channels}")
    if binary:
        levels = 256 if gray or size else 2
    dtype = _dtype(levels)

    def convert(image: np.ndarray) -> np.ndarray:
        if binary:
            image = (image[..., :1] if one_channel else image) > 0
            image = image.astype(dtype) * dtype(levels - 1)
        if gray:
            image = np.rint(image @ _LUMA)[..., None].astype(dtype)
        return image if size is None else _resize(image, size)

    if binary or gray or size:
        images = {key: np.stack([*map(convert, value)]) for key, value in source.images.items()}
    else:
        images = {key: np.asarray(value) for key, value in source.images.items()}
    shapes = sorted({value.shape[1:] for value in images.values()})
    if len(shapes) > 1:
        raise ValueError(
            f"the splits of {config.name} differ in size, such as {shapes[0][:2]} and"
            f" {shapes[-1][:2]}: set size to (height, width)"
        )
    return images, levels


def _two_valued(images: Sequence[np.ndarray]) -> bool:
    high = 0
    for image in images:
        value = int(image.max())
        if value not in (0, high or value) or value not in (0, 1, 255):
            return False
        if np.count_nonzero(image) != np.count_nonzero(image == value) and value:
            return False
        high = high or value
    return high > 0


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    channels = [
        np.asarray(
            Image.fromarray(channel.astype(np.float32)).resize(
                (width, height), Image.Resampling.BILINEAR
            )
        )
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.rint(np.stack(channels, axis=-1)).astype(image.dtype)


def _split(config: DataConfig, source: _Source, images: dict[str, np.ndarray]) -> dict[str, Split]:
    """Train, validation and test: as stored, and the rest from the end of train's order."""
    for key in ("validation", "test"):
        if key in images and getattr(config, key) is not None:
            raise ValueError(
                f"{key}={getattr(config, key)}, but {config.name} has its own {key} split of"
                f" {len(images[key])}: leave {key} out"
            )
    count, taken = len(images["train"]), 0
    sizes: dict[str, int] = {}
    order = np.arange(count)
    if source.order != "stored":
        order = np.random.RandomState(config.seed if source.order == "random" else 0).permutation(
            count
        )
    index: dict[str, np.ndarray] = {}
    for key in ("test", "validation"):
        if key not in images:
            default = source.held_out.get(key, max(1, count // 10))
            asked = getattr(config, key)
            sizes[key] = default if asked is None else asked
            index[key] = order[max(0, count - taken - sizes[key]) : max(0, count - taken)]
            taken += sizes[key]
    if taken >= count:
        held_out = " and ".join(f"{key}={size}" for key, size in sizes.items())
        raise ValueError(
            f"{held_out} would leave none of the {count} images of {config.name} to train on"
        )
    if index:
        index["train"] = order[: count - taken]

    def take(key: str) -> Split:
        stored = key if key in images else "train"
        labels = source.labels[stored]
        if key not in index:
            return Split(images[stored], labels)
        rows = index[key]
        return Split(images[stored][rows], None if labels is None else labels[rows])

    return {key: take(key) for key in _SPLITS}


def _bernoulli(
    intensities: np.ndarray, maximum: int, seed: int, stream: str, start: int = 0
) -> np.ndarray:
    """0 or 1 with probability intensity / maximum.

    The noise of image i of a stream is the counter's own stretch of Philox, whose stream NumPy
    guarantees: the same bits whatever the batch size, the process or the version.
    """
    count, *shape = intensities.shape
    pixels = int(np.prod(shape))
    blocks = -(-pixels // 8)  # of Philox: four 64-bit words, eight uniforms of 32 bits
    result = np.empty(intensities.shape, np.uint8)
    for first in range(0, count, _CHUNK):
        chunk = intensities[first : first + _CHUNK]
        noise = np.random.Philox(key=[seed, _STREAMS[stream]], counter=(start + first) * blocks)
        words = np.asarray(noise.random_raw(len(chunk) * blocks * 4))
        bits = words.view(np.uint32).reshape(len(chunk), blocks * 8)[:, :pixels]
        # 24 bits are exact in float32, and below 1: an intensity of 0 never draws 1, the maximum
        # never 0.
        uniform = (bits >> 8).astype(np.float32) * np.float32(2**-24)
        probability = chunk.astype(np.float32) / np.float32(maximum)
        result[first : first + _CHUNK] = uniform.reshape(chunk.shape) < probability
    return result


def _fingerprint(dataset: Dataset) -> str:
    """Content in order; the first word is to change with the rule of `train_iterator`'s order."""
    splits = (dataset.train, dataset.validation, dataset.test)
    arrays = [array for split in splits for array in (split.images, split.labels)]
    facts = ["order 1", dataset.levels, dataset.binarization, dataset.num_classes]
    digest = hashlib.sha256(repr(facts).encode())
    for array in [*arrays, dataset.intensities]:
        if array is None:
            digest.update(b"none")
        else:
            digest.update(repr((array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def _own_rows(batch_size: int, process_index: int, process_count: int) -> range:
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size={batch_size}: accepted are positive multiples of the number of"
            f" processes, {process_count}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index={process_index}: accepted are 0 to {process_count - 1}")
    rows = batch_size // process_count
    return range(process_index * rows, (process_index + 1) * rows)


def _pad(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1))


def _dtype(levels: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if levels <= 256 else np.uint16


def _check(config: DataConfig) -> None:
    """What is wrong whatever the set."""
    if not config.name:
        raise ValueError(_unknown(config.name))
    if config.binarize not in (None, *get_args(Binarize)):
        raise ValueError(f"binarize={config.binarize!r}: accepted are {get_args(Binarize)} or None")
    if config.levels is not None and config.levels < 2:
        raise ValueError(f"levels={config.levels}: accepted are 2 and more")
    if config.binarize and config.levels not in (None, 2):
        raise ValueError(
            f"levels={config.levels} with binarize={config.binarize!r}: a binarized set has 2"
            " levels; leave one of them out"
        )
    if config.size is not None and (len(config.size) != 2 or min(config.size) < 1):
        raise ValueError(f"size={config.size}: accepted are a height and a width, both positive")
    for key in ("validation", "test"):
        count = getattr(config, key)
        if count is not None and count < 1:
            raise ValueError(f"{key}={count}: accepted are 1 and more")
    _check_seed(config.seed)


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= _MAX_SEED:
        raise ValueError(f"seed={seed}: accepted are 0 to {_MAX_SEED}")


def _check_levels(config: DataConfig, has: int) -> None:
    if config.levels is not None and config.levels > has:
        raise ValueError(
            f"levels={config.levels}, but {config.name} has {has}: accepted are 2 to {has}"
        )
    if has == 2 and config.binarize == "dynamic":
        raise ValueError(
            f"binarize='dynamic' needs intensities, but {config.name} is binary as it is:"
            " accepted are None, 'static' and 'threshold'"
        )


def _unknown(name: str, folder: Path | None = None) -> str:
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


def _silent(done: int, total: int) -> None:
    pass
