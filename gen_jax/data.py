"""Data sets as integer levels in memory, and the order in which training sees them.

A set is decoded once (`load`), then Grain carries the position: element b of the pipeline is batch
number b, computed from (seed, b) alone. Items carried one by one through Grain's own shuffle and
batch cost 10 microseconds each, ten times more than all the rest.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import grain
import numpy as np
from PIL import Image

from gen_jax.data_sources import SPLITS, Progress, Source, read, unknown
from gen_jax.typing import Int, UInt

Binarize = Literal["static", "dynamic", "threshold"]

_CHUNK = 1024
_MAX_SEED = 2**32 - 1
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
    source = read(config.name, config.data_dir, config.size is not None, progress or _silent)
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
    """Endless batches `{"images", "indices", "labels"?}` of the training split, with `get_state`.

    `indices` are the images' numbers in the split; `set_state` goes to a position once got.

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
        items = {"images": images, "indices": index.astype(np.int32)}
        return items if labels is None else {**items, "labels": labels[index]}

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


def _intensities(config: DataConfig, source: Source) -> tuple[dict[str, np.ndarray], int]:
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


def _split(config: DataConfig, source: Source, images: dict[str, np.ndarray]) -> dict[str, Split]:
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

    return {key: take(key) for key in SPLITS}


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
        raise ValueError(unknown(config.name))
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


def _silent(done: int, total: int) -> None:
    pass
