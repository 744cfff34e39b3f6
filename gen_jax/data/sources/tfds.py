"""Prepared TensorFlow-Datasets sets, read without TensorFlow; and preparing one, which needs it."""

import difflib
import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gen_jax import checks
from gen_jax.data.pixels import Pixels
from gen_jax.data.sources.pictures import Decoder
from gen_jax.data.sources.source import SPLITS, Progress, Source, reading, some

_CHUNK = 1024
NAMES = "'digits', the name of a TFDS image set, a path to a .npz or to a folder of images"


def find(name: str, data_dir: str | None) -> Path | None:
    """data_dir/name[/config]/version, or None. TFDS itself fails misleadingly without it."""
    base, _, version = name.partition(":")
    folder = data_folder(data_dir) / base
    found = sorted(
        file.parent
        for file in [*folder.glob("*/dataset_info.json"), *folder.glob("*/*/dataset_info.json")]
        if version in ("", file.parent.name)
    )
    if len({path.parent for path in found}) > 1:
        raise ValueError(
            f"data set {name!r} has several configs in {folder}; accepted: one of them,"
            f" {', '.join(sorted({f'{base}/{path.parent.name}' for path in found}))}"
        )
    numbers = [[int(part) for part in re.findall(r"\d+", path.name)] for path in found]
    return max(zip(numbers, found, strict=True))[1] if found else None


def read(name: str, folder: Path, pixels: Pixels, progress: Progress) -> Source:
    """Puts the images of a prepared set into `pixels`."""
    import tensorflow_datasets as tfds

    _check_features(folder)
    with reading(str(folder)):
        builder: Any = tfds.builder_from_directory(folder)
        features, sizes = builder.info.features, builder.info.splits
        file_format = builder.info.file_format
    if file_format is not None and file_format.value != "array_record":
        raise ValueError(
            f"data set {name!r} is prepared as {file_format.value}; accepted: array_record, as "
            f"made by `gen_jax prepare {name}` once {folder} is moved away"
        )
    image_key = _feature(features, tfds.features.Image, "image")
    label_key = _feature(features, tfds.features.ClassLabel, "label")
    if image_key is None:
        raise ValueError(
            f"data set {name!r} has the features {', '.join(features)}; accepted: one of images, "
            "or one of these called image"
        )
    if "train" not in sizes:
        raise ValueError(
            f"data set {name!r} has the splits {', '.join(sizes)}; accepted: train, and others"
        )
    if features[image_key].np_dtype != np.uint8:
        dtype = features[image_key].np_dtype
        raise ValueError(f"data set {name!r} has images of {dtype}; accepted: uint8")
    counts = {key: sizes[key].num_examples for key in SPLITS if key in sizes}
    for key, count in counts.items():
        if not count:
            raise ValueError(f"the {key} split of {name!r} is empty; accepted: one image or more")

    shape, total = features[image_key].shape, sum(counts.values())
    decoder = Decoder(pixels.config, shape[-1])
    labels: dict[str, list[int]] = {key: [] for key in counts}
    # The bytes, and pillow: TFDS would decode 1-bit images to 0/1 or 0/255, as it happens.
    decoders = {image_key: tfds.decode.SkipDecoding()}
    done = 0

    def images(key: str) -> Iterator[np.ndarray]:
        nonlocal done
        with reading(str(folder)):
            source = builder.as_data_source(key, decoders=decoders)
            size = len(source)
        for start in range(0, size, _CHUNK):
            with reading(str(folder)):
                records = source.__getitems__(list(range(start, min(start + _CHUNK, size))))
            for record in records:
                image = decoder.decode(record[image_key], str(folder))
                if start == 0 and not done:
                    pixels.expect(total, image.shape)
                yield image
                done += 1
            labels[key] += [record[label_key] for record in records] if label_key else []
            progress(done, total)

    for key in counts:
        pixels.take(key, images(key))
    omitted = [key for key in sizes if key not in counts]
    return Source(
        {key: np.array(values, np.int32) if label_key else None for key, values in labels.items()},
        num_classes=features[label_key].num_classes if label_key else None,
        class_names=_class_names(features[label_key]) if label_key else None,
        held_out={"validation": 10_000} if builder.info.name == "mnist" else {},
        order="stored" if builder.info.name == "mnist" else "random",
        notes=tuple(decoder.notes()),
        omissions=(f"splits that are not used: {some(omitted)}",) if omitted else (),
    )


def data_folder(data_dir: str | None = None) -> Path:
    """The folder of the prepared TFDS sets: the argument, $TFDS_DATA_DIR, or TFDS's default."""
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return checks.expanded("data_dir", folder)


def prepare(name: str, data_dir: str | None = None) -> Path:
    """Downloads and writes a TFDS set as array_record by its own builder, which needs TensorFlow.

    Returns the set's folder. Raises ValueError for a set that TFDS has not, without TensorFlow,
    and if the set cannot be made.
    """
    import tensorflow_datasets as tfds

    if name == "digits":
        raise ValueError("name is 'digits', which scikit-learn has ready; accepted: a TFDS name")
    if _base(name) not in tfds.list_builders(with_community_datasets=False):
        raise unknown(name)
    try:
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise ValueError(
            "TensorFlow, which preparing a TFDS set needs (reading it does not), is not installed;"
            " accepted: with it, by pip install 'gen_jax[prepare]'"
        ) from error
    try:
        builder = tfds.builder(name, data_dir=data_folder(data_dir), file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # of the network, the disk, the builder's own
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"data set {name!r} cannot be prepared here: {type(error).__name__}: {reason}; "
            "accepted: what its own builder can download and write"
        ) from error
    return Path(builder.data_dir)


def unknown(name: str, folder: Path | None = None) -> ValueError:
    """What to raise for a name of no data set here: not prepared, or not known to TFDS either."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if _base(name) in known and folder is not None:
        return ValueError(
            f"data set {name!r} is not prepared in {folder}; accepted: what `gen_jax prepare "
            f"{name}` makes (it needs gen_jax[prepare]), or TFDS_DATA_DIR set to the folder that "
            "has it"
        )
    close = difflib.get_close_matches(_base(name), ["digits", *known], 3)
    hint = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
    return ValueError(f"name is {name!r}{hint}; accepted: {NAMES}")


def _base(name: str) -> str:
    return re.split("[/:]", name)[0]


def _feature(features: Any, kind: type, default: str) -> str | None:
    """The key of the feature of that kind: the one with the default's name, or the only one."""
    found = [key for key, feature in features.items() if isinstance(feature, kind)]
    if default in found:
        return default
    return found[0] if len(found) == 1 else None


def _class_names(feature: Any) -> tuple[str, ...] | None:
    """TFDS names a class that has no name by its number."""
    names = tuple(feature.names or ())
    return None if names == tuple(map(str, range(len(names)))) else names


def _check_features(folder: Path) -> None:
    """ValueError if features.json names a class that is not TFDS's own: TFDS would import the
    module of any name there."""
    from tensorflow_datasets import features

    kinds = [kind for kind in vars(features).values() if isinstance(kind, type)]
    own = {f"{kind.__module__}.{kind.__name__}" for kind in kinds}
    own |= {alias for kind in kinds for alias in getattr(kind, "ALIASES", ())}
    path = folder / "features.json"
    with reading(str(path)):
        named = [*_feature_classes(json.loads(path.read_text()))]
    for name in named:
        if name not in own:
            raise ValueError(
                f"{path} names the class {name!r}; accepted: the feature classes of TFDS itself"
            )


def _feature_classes(value: object) -> Iterator[str]:
    """Every class name in a features.json, of the older form and in JSON within JSON too."""
    if isinstance(value, list):
        for item in value:
            yield from _feature_classes(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("pythonClassName", "python_class_name", "type") and isinstance(item, str):
                yield item
            elif key == "json" and isinstance(item, str):
                yield from _feature_classes(json.loads(item))
            else:
                yield from _feature_classes(item)
