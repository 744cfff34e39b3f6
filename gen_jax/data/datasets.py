"""A data set in memory: three splits of levels, and what a result must say of them."""

import dataclasses
import hashlib
import os
import warnings

import numpy as np

from gen_jax.data.config import DataConfig, DataWarning, augmentation, checked
from gen_jax.data.noise import bernoulli
from gen_jax.data.pixels import Pixels, dtype_of
from gen_jax.data.sources import SPLITS, Progress, Source, locate, read
from gen_jax.data.sources.source import some
from gen_jax.reprs import brief
from gen_jax.typing import Int, UInt

AS_PUBLISHED = "static (as published)"
"""The `binarization` of TFDS's binarized_mnist."""
AS_STORED = "two levels, as stored"
"""That of any other set of two levels."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Images as levels `0 … levels - 1`, and class labels if there are; `len` counts them."""

    images: UInt[np.ndarray, "B H W C"]
    """Levels, uint8, or uint16 above 256 levels."""
    labels: Int[np.ndarray, " B"] | None = None
    """Class of each image, 0 … num_classes − 1; None where the set has none."""

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Three splits in memory, and what a result must say about them.

    `fingerprint` hashes all content and the rule of the batch order: together with the batch size
    and the seed of `train_iterator` it fixes every batch. Grain takes another set's state silently.
    """

    name: str
    """As in DataConfig."""
    levels: int
    """Number of levels of a channel: the model's likelihood must have as many."""
    binarization: str
    """How the images were made binary, in words: numbers compare within one kind only."""
    num_classes: int | None
    """Number of classes; None without labels."""
    train: Split
    """What is trained on."""
    validation: Split
    """What chooses the best step."""
    test: Split
    """What is reported."""
    intensities: UInt[np.ndarray, "B H W C"] | None = None
    """Dynamic binarization only: what `train_iterator` draws from (`train` is one such draw)."""
    intensity_levels: int | None = None
    """How many levels the intensities have."""
    fingerprint: str = ""
    """Hash of all of it, in hexadecimal."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes in order, where the set has them."""
    notes: tuple[str, ...] = ()
    """What was assumed, skipped or counted in reading, one line each."""
    flip: bool = False
    """Whether `train_iterator` mirrors images at random, as in DataConfig."""
    shift: int = 0
    """By how many pixels `train_iterator` moves images at most, as in DataConfig."""

    __repr__ = brief

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def augmentation(self) -> str:
        """What `train_iterator` does to images: 'none', 'flips', 'flips, shifts of 2', …"""
        return augmentation(DataConfig(flip=self.flip, shift=self.shift))


def load(config: DataConfig | str | os.PathLike[str], progress: Progress | None = None) -> Dataset:
    """The data set, decoded into memory; `progress(done, total)` is called while images decode.

    Raises ValueError: unknown, unprepared or damaged set, one that cannot fit in memory, or an
    option that the set cannot give. What is left out of a set is a DataWarning, and in its `notes`.
    """
    return _load(config, progress, whole=False)


def load_whole(
    config: DataConfig | str | os.PathLike[str], progress: Progress | None = None
) -> Dataset:
    """`load` with all images as `train`, in the order stored: to score, not to train on.

    The other splits are empty, so one image is enough.
    """
    return _load(config, progress, whole=True)


def _load(
    config: DataConfig | str | os.PathLike[str], progress: Progress | None, whole: bool
) -> Dataset:
    config = checked(config)
    pixels = Pixels(config)
    source = read(config, pixels, progress or _silent)
    images, has = pixels.finish(source.white)
    _check_levels(config, has)
    splits = _whole(source, images) if whole else _split(config, source, images)
    height, width = images["train"].shape[1:3]
    if config.shift >= min(height, width):
        raise ValueError(
            f"shift is {config.shift}; accepted, for images of {height} x {width}: whole numbers "
            f"from 0 to {min(height, width) - 1}"
        )

    levels = 2 if config.binarize else config.levels or has
    binarization, intensities = "none", None
    if has == 2:
        published = config.name.partition("/")[0].partition(":")[0] == "binarized_mnist"
        binarization = AS_PUBLISHED if published else AS_STORED
    elif config.binarize in ("static", "dynamic"):
        dynamic = config.binarize == "dynamic"
        binarization = "dynamic" if dynamic else f"static (seed {config.seed})"
        intensities = splits["train"].images if dynamic else None
        splits = {
            key: Split(bernoulli(split.images, has - 1, config.seed, key), split.labels)
            for key, split in splits.items()
        }
    elif levels < has:
        binarization = "threshold" if levels == 2 else "none"
        table = (np.arange(has) * levels // has).astype(dtype_of(levels))
        splits = {key: Split(table[split.images], split.labels) for key, split in splits.items()}
    omissions, notes = [*source.omissions, *pixels.doubts], [*source.notes, *pixels.notes]
    if not whole:
        stored = [key for key in ("validation", "test") if key in images]
        omissions += _unseen_classes(stored, splits, source.class_names)
    if source.class_names is not None:
        notes.append(f"{source.num_classes} classes: {some(source.class_names, 20)}")
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
        class_names=source.class_names,
        notes=(*omissions, *notes) if config.name != "digits" else (),
        flip=config.flip,
        shift=config.shift,
    )
    for omission in omissions:
        warnings.warn(f"{config.name}: {omission}", DataWarning, stacklevel=3)
    return dataclasses.replace(dataset, fingerprint=_fingerprint(dataset))


def _unseen_classes(
    stored: list[str], splits: dict[str, Split], names: tuple[str, ...] | None
) -> list[str]:
    """Classes of a stored split that train does not have: it may be no class at all, such as the
    folder in which all images of the split lie."""
    doubts, trained = [], splits["train"].labels
    for key in stored:
        labels = splits[key].labels
        if labels is not None and trained is not None:
            unseen = np.setdiff1d(labels, trained)
            if unseen.size:
                shown = some([names[n] if names else int(n) for n in unseen], 5)
                doubts.append(f"{key} has classes that train has not: {shown}")
    return doubts


def resolved(config: DataConfig) -> DataConfig:
    """The same configuration, found from every working directory: its paths are absolute.

    Raises ValueError for a set that is not there.
    """
    config = checked(config)
    kind, path = locate(config.name, config.data_dir)
    if kind in ("npz", "folder"):
        config = dataclasses.replace(config, name=os.path.abspath(path))
    if config.data_dir is not None:
        folder = os.path.abspath(os.path.expanduser(config.data_dir))
        config = dataclasses.replace(config, data_dir=folder)
    return config


def _whole(source: Source, images: dict[str, np.ndarray]) -> dict[str, Split]:
    """Every stored split, one after the other, as train."""
    keys = [key for key in SPLITS if key in images]
    labels = [labels for key in keys if (labels := source.labels[key]) is not None]
    whole = Split(
        np.concatenate([images[key] for key in keys]),
        np.concatenate(labels) if len(labels) == len(keys) else None,
    )
    empty = Split(whole.images[:0], None if whole.labels is None else whole.labels[:0])
    return {"train": whole, "validation": empty, "test": empty}


def _split(config: DataConfig, source: Source, images: dict[str, np.ndarray]) -> dict[str, Split]:
    """Train, validation and test: as stored, and the rest from the end of train's order."""
    for key in ("validation", "test"):
        if key in images and getattr(config, key) is not None:
            raise ValueError(
                f"{key} is {getattr(config, key)}, but {config.name} has its own {key} split of "
                f"{len(images[key])}; accepted: None"
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
        held_out = " and ".join(f"{key} is {size}" for key, size in sizes.items())
        raise ValueError(
            f"{held_out}; accepted: what leaves one of the {count} images of {config.name} to "
            "train on"
        )
    if index:
        index["train"] = order[: count - taken]

    def take(key: str) -> Split:
        stored = key if key in images else "train"
        labels = source.labels[stored]
        if key not in index:
            return Split(images[stored], labels)
        chosen = index[key]
        return Split(images[stored][chosen], None if labels is None else labels[chosen])

    return {key: take(key) for key in SPLITS}


def _fingerprint(dataset: Dataset) -> str:
    """Content in order; the first word is to change with the rule of `train_iterator`'s order."""
    splits = (dataset.train, dataset.validation, dataset.test)
    arrays = [array for split in splits for array in (split.images, split.labels)]
    facts = ["order 1", dataset.levels, dataset.binarization, dataset.num_classes]
    if dataset.augmentation != "none":
        facts.append(dataset.augmentation)
    digest = hashlib.sha256(repr(facts).encode())
    for array in [*arrays, dataset.intensities]:
        if array is None:
            digest.update(b"none")
        else:
            digest.update(repr((array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def _check_levels(config: DataConfig, has: int) -> None:
    if config.levels is not None and config.levels > has:
        raise ValueError(
            f"levels is {config.levels}; accepted, for {config.name}: whole numbers from 2 to {has}"
        )
    if has == 2 and config.binarize == "dynamic":
        raise ValueError(
            f"binarize is 'dynamic'; accepted, for {config.name}, which is binary as it is: None, "
            "static, threshold"
        )


def _silent(done: int, total: int) -> None:
    pass
