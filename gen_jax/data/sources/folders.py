"""Folders of images as people have them: classes, splits, links, and what else lies about."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gen_jax.data.pixels import Pixels
from gen_jax.data.sources.pictures import Decoder, suffixes
from gen_jax.data.sources.source import (
    SPLIT_NAMES,
    SPLITS,
    Progress,
    Source,
    counted,
    natural,
    reading,
    some,
)

_CHUNK = 256
_Parts = tuple[str, ...]  # a path below the set's folder


def read(path: Path, pixels: Pixels, progress: Progress) -> Source:
    """Puts the images of a folder into `pixels`.

    Sub-folders train, val and test are splits if there is nothing but these; others are classes,
    unless there is one only.
    """
    found = _search(path)
    if not found.images:
        instead = "; ".join(found.omissions())
        raise ValueError(
            f"folder {str(path)!r} holds no images that Pillow reads{instead and ': '}{instead}; "
            "accepted: names that end in .png, .jpg, .webp, .tif and the like"
        )
    notes = []
    splits, depth = _splits(path, found.images)
    alone = found.images[0][: depth - (len(splits) > 1)]
    if alone and len(splits) == 1:
        notes.append(f"the only sub-folder, {'/'.join(alone)!r}, is not a class")
    if len(splits) > 1:
        sizes = ", ".join(f"{key} {len(files)}" for key, files in splits.items())
        notes.append(f"sub-folders are splits: {sizes}")
    labels, names = _classes(path, splits, depth)

    decoder, done, total = Decoder(pixels.config, turn=True), 0, len(found.images)

    def images(key: str) -> Iterator[np.ndarray]:
        nonlocal done
        for parts in splits[key]:
            file = path.joinpath(*parts)
            if not file.exists():
                raise ValueError(f"{file} is a link to nothing; accepted: files, and links to one")
            with reading(str(file)):
                content = file.read_bytes()
            image = decoder.decode(content, str(file))
            pixels.coloured |= decoder.coloured
            if not done:
                pixels.expect(total, image.shape, image.itemsize)
            yield image
            done += 1
            if done % _CHUNK == 0:
                progress(done, total)

    for key in splits:
        pixels.take(key, images(key))
    progress(total, total)
    if pixels.black and decoder.put_on_black:
        raise ValueError(
            f"all images of {str(path)!r} are black, what they show being in their transparency; "
            "accepted: background='white'"
        )
    return Source(
        labels,
        white=65535 if pixels.sixteen_bits else 255,
        num_classes=len(names) if names else None,
        class_names=names,
        notes=(*notes, *decoder.notes()),
        omissions=(*found.omissions(), *decoder.omissions()),
    )


@dataclasses.dataclass
class _Found:
    """Paths below a folder."""

    images: list[_Parts] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    hidden: list[str] = dataclasses.field(default_factory=list)
    links: list[str] = dataclasses.field(default_factory=list)

    def omissions(self) -> Iterator[str]:
        if self.others:
            ends = Counter(os.path.splitext(name)[1].lower() for name in self.others)
            kinds = ", ".join(f"{n} {end or 'without suffix'}" for end, n in ends.most_common(5))
            yield (
                f"{counted(self.others, 'file')} not read, as no images by their names ({kinds}):"
                f" {some(self.others)}"
            )
        if self.hidden:
            yield f"hidden and skipped: {some(self.hidden)} ({len(self.hidden)})"
        if self.links:
            yield (
                f"{counted(self.links, 'link')} to what is read already, or holds this folder,"
                f" skipped: {some(self.links)}"
            )


def _search(top: Path) -> _Found:
    """Every file below, each folder once whatever links lead to it; real folders before links."""
    found, endings = _Found(), suffixes()
    seen: set[str] = set()
    real_top = os.path.realpath(top)

    def enter(folder: Path, parts: _Parts, links: list[_Parts]) -> None:
        seen.add(os.path.realpath(folder))
        with reading(str(folder)):
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in entries:
            name, below = "/".join((*parts, entry.name)), (*parts, entry.name)
            is_folder = os.path.isdir(entry.path)
            readable = os.path.splitext(entry.name)[1].lower() in endings
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                if is_folder or readable:
                    found.hidden.append(name)
            elif is_folder and entry.is_symlink():
                links.append(below)
            elif is_folder:
                enter(Path(entry.path), below, links)
            elif readable and (os.path.isfile(entry.path) or not os.path.exists(entry.path)):
                found.images.append(below)
            else:
                found.others.append(name)

    waiting: list[_Parts] = []
    enter(top, (), waiting)
    while waiting:
        later: list[_Parts] = []
        for parts in sorted(waiting):
            target = os.path.realpath(top.joinpath(*parts))
            if target in seen or os.path.commonpath([target, real_top]) == target:
                found.links.append("/".join(parts))
            else:
                enter(top.joinpath(*parts), parts, later)
        waiting = later
    found.images.sort()
    return found


def _splits(path: Path, images: list[_Parts]) -> tuple[dict[str, list[_Parts]], int]:
    """The files of each split, and how many folders deep what they lie in begins."""
    depth = _common(images, 0)
    names = {parts[depth] for parts in images if len(parts) > depth + 1}
    kinds = {name: SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}
    flat = any(len(parts) == depth + 1 for parts in images)
    if flat or len(kinds) < 2 or (names != kinds.keys() and "train" not in kinds.values()):
        return {"train": images}, depth
    if names != kinds.keys():
        raise ValueError(
            f"folder {str(path)!r} holds splits ({some(sorted(kinds))}) and other sub-folders "
            f"({some(sorted(names - kinds.keys()))}); accepted: one kind, the other moved elsewhere"
        )
    if "train" not in kinds.values():
        raise ValueError(
            f"folder {str(path)!r} has the splits {sorted(names)}; accepted: train, and others"
        )
    if len({*kinds.values()}) < len(kinds):
        raise ValueError(
            f"folder {str(path)!r} has the splits {sorted(kinds)}; accepted: one folder a split"
        )
    splits: dict[str, list[_Parts]] = {key: [] for key in SPLITS}
    for parts in images:
        splits[kinds[parts[depth]]].append(parts)
    return {key: files for key, files in splits.items() if files}, _common(images, depth + 1)


def _common(images: list[_Parts], depth: int) -> int:
    """Past the folders, from `depth` on, that all images lie in: they are no classes."""
    while len({parts[depth] for parts in images}) == 1 and len(images[0]) > depth + 1:
        depth += 1
    return depth


def _classes(
    path: Path, splits: dict[str, list[_Parts]], depth: int
) -> tuple[dict[str, np.ndarray | None], tuple[str, ...] | None]:
    """Labels by the folder at `depth`, and the names of the classes, if there are any."""
    flat = {key: {len(parts) == depth + 1 for parts in files} for key, files in splits.items()}
    if all(kinds == {True} for kinds in flat.values()):
        return dict.fromkeys(splits), None
    if any(True in kinds for kinds in flat.values()):
        where = ", ".join(key for key, kinds in flat.items() if True in kinds)
        loose = f" (loose in {where})" if len(splits) > 1 else ""
        raise ValueError(
            f"folder {str(path)!r} holds images{loose} beside sub-folders of images, which would "
            "be classes; accepted: all images in sub-folders, or none"
        )
    names = {parts[depth] for files in splits.values() for parts in files}
    ordered = tuple(sorted(names, key=natural))
    number = {name: i for i, name in enumerate(ordered)}
    labels: dict[str, np.ndarray | None] = {
        key: np.array([number[parts[depth]] for parts in files], np.int32)
        for key, files in splits.items()
    }
    return labels, ordered
