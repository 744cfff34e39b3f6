"""Image sets written for the tests: images, .npz files, and TFDS folders without TensorFlow."""

import dataclasses
import io
import json
from pathlib import Path

import grain
import numpy as np
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from gen_jax.data import Dataset, Split


def gray(count: int, shape: tuple[int, ...] = (6, 5), seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (count, *shape)).astype(np.uint8)


def png(image: np.ndarray, mode: str | None = None) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    (picture.convert(mode) if mode else picture).save(file, "PNG")
    return file.getvalue()


def write_tfds(
    folder: Path,
    splits: dict[str, np.ndarray],
    *,
    labels: bool = True,
    mode: str | None = None,
    shape: tuple[int | None, ...] | None = None,
    dtype: str = "uint8",
    with_image: bool = True,
    file_format: str = "array_record",
) -> Path:
    """data_dir/name/version with array_record shards, features.json and dataset_info.json."""
    folder.mkdir(parents=True)
    name, version = folder.parent.name, folder.name
    shape = shape or next(iter(splits.values())).shape[1:]
    core = "tensorflow_datasets.core.features."
    features: dict[str, dict] = {}
    if with_image:
        dimensions = ["-1" if size is None else str(size) for size in shape]
        features["image"] = {
            "pythonClassName": core + "image_feature.Image",
            "image": {
                "dtype": dtype,
                "shape": {"dimensions": dimensions},
                "encodingFormat": "png",
            },
        }
    if labels or not with_image:
        features["label"] = {
            "pythonClassName": core + "class_label_feature.ClassLabel",
            "classLabel": {"numClasses": "3"},
        }
    root = {
        "pythonClassName": core + "features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (folder / "features.json").write_text(json.dumps(root))
    infos = []
    for split, images in splits.items():
        shard = folder / f"{name}-{split}.array_record-00000-of-00001"
        writer = array_record_module.ArrayRecordWriter(str(shard), "group_size:1")
        for i, image in enumerate(images):
            example = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue]
            example.features.feature["image"].bytes_list.value.append(png(image, mode))
            example.features.feature["label"].int64_list.value.append(i % 3)
            writer.write(example.SerializeToString())
        writer.close()
        infos.append(
            {
                "name": split,
                "numBytes": "1000",
                "shardLengths": [str(len(images))],
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    info = {"name": name, "version": version, "fileFormat": file_format, "splits": infos}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def save_npz(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return str(path)


def ramp(tmp_path: Path, count: int = 600) -> str:
    """Every intensity in its own pixel, in every image."""
    images = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16), (count, 16, 16))
    return save_npz(tmp_path / "ramp.npz", images=images)


def numbered(count: int, intensities: np.ndarray | None = None) -> Dataset:
    """Image i has label i, so that a batch tells which examples it holds."""
    labels = np.arange(count, dtype=np.int32)
    images = np.broadcast_to((labels % 251).astype(np.uint8)[:, None, None, None], (count, 2, 3, 1))
    split = Split(images, labels)
    dataset = Dataset("numbered", 256, "none", count, split, split, split)
    if intensities is None:
        return dataset
    return dataclasses.replace(
        dataset, levels=2, binarization="dynamic", intensities=intensities, intensity_levels=256
    )


def batches(iterator: grain.DatasetIterator, count: int) -> list[dict[str, np.ndarray]]:
    return [next(iterator) for _ in range(count)]


def assert_equal_batches(left: list, right: list) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
