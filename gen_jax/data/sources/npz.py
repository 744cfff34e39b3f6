"""NumPy archives in the layouts that people have. Only what is needed of one is read."""

import dataclasses
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gen_jax.data.config import MAX_VALUE
from gen_jax.data.pixels import Pixels
from gen_jax.data.sources.source import SPLIT_NAMES, SPLITS, Source, natural, reading, some

_IMAGES = ("images", "image", "imgs", "img", "pixels", "inputs", "data", "x")
_LABELS = ("labels", "label", "targets", "target", "classes", "class", "y")
_CLASS_NAMES = ("class_names", "label_names", "target_names", "names")
_KINDS: dict[str, str] = {**dict.fromkeys(_IMAGES, "images"), **dict.fromkeys(_LABELS, "labels")}
_SPLIT, _KIND = "|".join(sorted(SPLIT_NAMES, reverse=True)), "|".join(_KINDS)
_NAMES = (
    re.compile(rf"(?P<split>{_SPLIT})[-_. ]?(?P<kind>{_KIND})?"),
    re.compile(rf"(?P<kind>{_KIND})[-_. ]?(?P<split>{_SPLIT})?"),
)


@dataclasses.dataclass(frozen=True)
class _Header:
    """What a .npz says of an array before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def like_images(self) -> bool:
        return self.dtype.kind in "biu" and len(self.shape) in (3, 4) and 0 not in self.shape


def read(path: Path, pixels: Pixels) -> Source:
    """Puts the images of a .npz into `pixels`."""
    headers = _headers(path)
    images = _image_names(path, headers)
    labels = _label_names(path, headers, images)
    shapes = {key: _image_shape(path, headers[name]) for key, name in images.items()}
    if len({shape[-1] for shape in shapes.values()}) > 1:
        raise ValueError(
            f"images of {path} have shapes {shapes}; accepted: one number of channels for all"
        )
    titles = [name for name in _CLASS_NAMES if name in headers and headers[name].dtype.kind == "U"]

    needed = [*images.values(), *labels.values(), *titles[:1]]
    itemsize = min(2, max(headers[name].dtype.itemsize for name in images.values()))
    held = sum(headers[name].nbytes for name in needed)
    pixels.expect(sum(shape[0] for shape in shapes.values()), shapes["train"][1:], itemsize, held)
    with reading(str(path)), path.open("rb") as stream, np.load(stream) as file:
        arrays = {name: np.asarray(file[name]) for name in needed}

    narrowed = _narrowed(path, {key: arrays[name] for key, name in images.items()})
    for key, array in narrowed.items():
        pixels.take(key, array.reshape(shapes[key]))
    read = {key: _labels(path, arrays[name], shapes[key][0]) for key, name in labels.items()}
    numbers, num_classes, class_names = _numbered(path, read)
    if titles:
        titled = arrays[titles[0]]
        distinct = set(map(str, titled)) if titled.ndim == 1 else set()
        if class_names is None and len(distinct) == titled.size == num_classes:
            class_names = tuple(map(str, titled))
        else:
            needed.remove(titles[0])
    notes = [
        f"{name!r} is taken for the {kind} of {key}"
        for kind, names in (("images", images), ("labels", labels))
        for key, name in names.items()
        if _rank(name) > 1
    ]
    if num_classes is not None and class_names is None:
        never = {*range(num_classes)}.difference(*(values for values in numbers.values()))
        if never:
            notes.append(f"{num_classes} classes, of which {some(never, 5)} never occur")
    unused = [f"{name!r} ({header})" for name, header in headers.items() if name not in needed]
    return Source(
        {key: numbers.get(key) for key in images},
        white=255 if narrowed["train"].itemsize == 1 else MAX_VALUE,
        num_classes=num_classes,
        class_names=class_names,
        notes=tuple(notes),
        omissions=(f"arrays that are not used: {some(unused, 5, str)}",) if unused else (),
    )


def _headers(path: Path) -> dict[str, _Header]:
    """Name, shape and type of every array, without reading any."""
    headers = {}
    with reading(str(path)), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            # A Mac's archiver adds hidden ones.
            if not member.endswith(".npy") or member.rpartition("/")[2].startswith("."):
                continue
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                is_version_1 = version == (1, 0)
                shape, _, dtype = (
                    np.lib.format.read_array_header_1_0(stream)
                    if is_version_1
                    else np.lib.format.read_array_header_2_0(stream)
                )
            headers[member.removesuffix(".npy")] = _Header(shape, dtype)
    return headers


def _parse(name: str) -> tuple[str, str] | None:
    """What an array's name says it is: ('images' or 'labels', split)."""
    for pattern in _NAMES:
        match = pattern.fullmatch(name.lower())
        if match:
            kind, split = _KINDS[match["kind"] or "images"], SPLIT_NAMES[match["split"] or "train"]
            return kind, split
    return None


def _rank(name: str) -> int:
    """Which of two names goes before: 0 for the plain ones, then 'target', then all others."""
    kind = name.removeprefix("train_").removeprefix("validation_").removeprefix("test_")
    return {"images": 0, "labels": 0, "target": 1}.get(kind, 2)


def _chosen(path: Path, names: list[str], what: str) -> str:
    foremost = [name for name in names if _rank(name) == min(map(_rank, names))]
    if len(foremost) > 1:
        raise ValueError(
            f"{path} has several arrays that could be the {what}: {some(foremost, 5)}; accepted: "
            "one, or names such as 'train_images', 'train_labels', 'test_images', ..."
        )
    return foremost[0]


def _image_names(path: Path, headers: Mapping[str, _Header]) -> dict[str, str]:
    """Which array holds the images of each split that there is."""
    chosen = {}
    for split in SPLITS:
        names = [name for name in headers if _parse(name) == ("images", split)]
        names = [name for name in names if headers[name].like_images] or names
        if names:
            chosen[split] = _chosen(path, names, f"images of {split}")
    like = [name for name, header in headers.items() if header.like_images]
    if not chosen and like:
        chosen["train"] = _chosen(path, like, "images")
    if "train" not in chosen:
        found = ", ".join(f"{name} {header}" for name, header in [*headers.items()][:10])
        raise ValueError(
            f"{path} holds {found or 'no arrays'}; accepted: an array of images, named 'images', "
            "'train_images', 'x_train', ..."
        )
    return chosen


def _label_names(
    path: Path, headers: Mapping[str, _Header], images: Mapping[str, str]
) -> dict[str, str]:
    """Which array holds the labels of each split, if they are given."""
    chosen = {}
    for split in images:
        names = [name for name in headers if _parse(name) == ("labels", split)]
        if names:
            chosen[split] = _chosen(path, names, f"labels of {split}")
            if headers[chosen[split]].dtype.hasobject:
                raise ValueError(
                    f"{path}: {chosen[split]!r} holds Python objects, which are pickled, and never "
                    "read; accepted: labels as integers, or as text, by .astype(str)"
                )
    if not chosen and images["train"].startswith("arr_"):
        count = headers[images["train"]].shape[0]
        unnamed = [
            name
            for name, header in headers.items()
            if name.startswith("arr_")
            and header.dtype.kind in "iuUS"
            and header.shape in ((count,), (count, 1))
        ]
        if unnamed:
            chosen["train"] = _chosen(path, unnamed, "labels")
    if chosen and len(chosen) < len(images):
        raise ValueError(
            f"{path} has images of {', '.join(images)}, but labels of {', '.join(chosen)}; "
            "accepted: labels of every split, or of none"
        )
    return chosen


def _image_shape(path: Path, header: _Header) -> tuple[int, int, int, int]:
    """[N, H, W, C], if that is what it is."""
    shape, dtype = header.shape, header.dtype
    if dtype.kind not in "biu":
        hint = ""
        if dtype.kind == "f":
            hint = "; of floats 0 to 1, np.rint(images * 255).astype(np.uint8) makes them"
        if dtype.hasobject:
            hint = "; Python objects are pickled, and never read"
        raise ValueError(
            f"{path}: images have dtype {dtype}; accepted: uint8, uint16, other integers of 0 to "
            f"{MAX_VALUE} and bool{hint}"
        )
    hint = ""
    if len(shape) == 2:
        side = math.isqrt(shape[1])
        hint = f"; reshape(-1, {side}, {side}) may do" if side**2 == shape[1] else ""
    if len(shape) == 4 and 0 not in shape and shape[3] > 4:
        if shape[1] <= 4:
            hint = "; these look like [N, C, H, W]: images.transpose(0, 2, 3, 1) mends it"
        elif shape[2] <= 4:
            hint = "; these look like [H, W, C, N]: images.transpose(3, 0, 1, 2) mends it"
    if len(shape) not in (3, 4) or 0 in shape or hint:
        raise ValueError(
            f"{path}: images have shape {shape}; accepted: [N, H, W] and [N, H, W, C], none of "
            f"them 0{hint}"
        )
    count, height, width, channels = (*shape, 1)[:4]
    return count, height, width, channels


def _narrowed(path: Path, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """uint8 and uint16 as they are; other integers as the smaller of them that holds all."""
    wide = {key: a for key, a in images.items() if a.dtype.kind != "u" or a.itemsize > 2}
    low = min((int(array.min()) for array in wide.values()), default=0)
    high = max((int(array.max()) for array in wide.values()), default=0)
    if low < 0 or high > MAX_VALUE:
        raise ValueError(f"{path}: images have values {low} to {high}; accepted: 0 to {MAX_VALUE}")
    others = [array.itemsize for key, array in images.items() if key not in wide]
    narrow = np.uint8 if high <= 255 and max(others, default=1) == 1 else np.uint16
    return {
        key: array.astype(narrow if key in wide else f"u{array.itemsize}", copy=False)
        for key, array in images.items()
    }


def _labels(path: Path, labels: np.ndarray, count: int) -> tuple[np.ndarray, int | None]:
    """[N] integers or text; and the number of classes where one-hot vectors say it."""
    array = labels.reshape(len(labels)) if labels.ndim and labels.size == len(labels) else labels
    if array.shape == (count,):
        if array.dtype.kind == "S":
            return np.char.decode(array, "utf-8", "replace"), None
        if array.dtype.kind == "U":
            return array, None
        if array.dtype.kind in "uib" and array.min() >= 0:
            return array.astype(np.uint64), None
        whole = array.dtype.kind == "f" and (array == np.floor(array)).all()
        if whole and array.min() >= 0 and array.max() < 2**32:
            return array.astype(np.uint64), None
    one_hot = array.ndim == 2 and len(array) == count and array.dtype.kind in "uibf"
    if one_hot and np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all():
        return array.argmax(axis=1).astype(np.uint64), array.shape[-1]
    raise ValueError(
        f"{path}: labels are {labels.dtype} of shape {labels.shape}; accepted: {count} integers, "
        "one an image, none below 0; as many texts; or one-hot vectors"
    )


def _numbered(
    path: Path, labels: Mapping[str, tuple[np.ndarray, int | None]]
) -> tuple[dict[str, np.ndarray], int | None, tuple[str, ...] | None]:
    """Labels 0, 1, … of each split, how many classes there are, and names if labels are text."""
    arrays = {key: array for key, (array, _) in labels.items()}
    if not arrays:
        return {}, None, None
    if len({array.dtype.kind for array in arrays.values()}) > 1:
        raise ValueError(
            f"{path}: labels are text in some splits and numbers in others; accepted: one of them"
        )
    distinct = np.unique(np.concatenate([*arrays.values()]))
    if distinct.dtype.kind == "U":
        names = tuple(sorted(map(str, distinct), key=natural))
        number = {name: i for i, name in enumerate(names)}
        numbers = {
            key: np.array([number[str(name)] for name in array], np.int32)
            for key, array in arrays.items()
        }
        return numbers, len(names), names
    largest = int(distinct[-1])
    if largest >= max(10_000, 10 * len(distinct)):
        raise ValueError(
            f"{path}: labels go up to {largest}, but only {len(distinct)} differ; accepted: "
            "numbers from 0 on, such as of np.unique(labels, return_inverse=True)[1]"
        )
    counts = [count for _, count in labels.values() if count is not None]
    numbers = {key: array.astype(np.int32) for key, array in arrays.items()}
    return numbers, max([largest + 1, *counts]), None
