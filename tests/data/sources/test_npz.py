"""NumPy archives as people have them: their layouts, types and labels, and what is refused."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gen_jax import data
from gen_jax.data import DataConfig, Dataset, memory
from tests.image_sets import gray, save_npz


def load(folder: Path, arrays: dict, **options) -> Dataset:
    return data.load(DataConfig(save_npz(folder / "a.npz", **arrays), **options))


def every(dataset: Dataset) -> np.ndarray:
    splits = (dataset.train, dataset.validation, dataset.test)
    return np.concatenate([split.images for split in splits])


def test_npz(tmp_path: Path):
    images, target = gray(30), np.arange(30) % 4
    path = save_npz(tmp_path / "a.npz", images=images, target=target)
    dataset = data.load(DataConfig(path))
    sizes = [len(split) for split in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [24, 3, 3]
    assert (dataset.image_shape, dataset.num_classes) == ((6, 5, 1), 4)
    order = np.random.RandomState(0).permutation(30)
    np.testing.assert_array_equal(dataset.train.images[..., 0], images[order[:24]])
    np.testing.assert_array_equal(dataset.train.labels, target[order[:24]])
    assert data.load(DataConfig(path, seed=1)).fingerprint != dataset.fingerprint

    wide = np.arange(30 * 4, dtype=np.uint16).reshape(30, 2, 2) * 500
    path = save_npz(tmp_path / "b.npz", images=wide)
    dataset = data.load(DataConfig(path))
    assert dataset.levels == 65536
    assert dataset.train.images.dtype == np.uint16
    assert data.load(DataConfig(path, levels=256)).train.images.dtype == np.uint8


def test_npz_with_its_own_splits(tmp_path: Path):
    train, test = gray(30, (4, 4, 3)), gray(5, (4, 4, 3), 1)
    path = save_npz(tmp_path / "a.npz", train_images=train, test_images=test)
    dataset = data.load(DataConfig(path))
    np.testing.assert_array_equal(dataset.test.images, test)
    assert len(dataset.train) == 27
    assert len(dataset.validation) == 3


COUNT = np.arange(20) % 3


@pytest.mark.parametrize(
    "names",
    [
        ("images", "labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("trainX", "trainY", "testX", "testY"),
        ("train_data", "train_labels", "test_data", "test_labels"),
        ("train", "train_targets", "test", "test_targets"),
        ("data", "target", "data_test", "target_test"),
    ],
)
def test_layouts(tmp_path: Path, names: tuple[str, ...]):
    test = gray(5, seed=1)
    arrays = dict(zip(names, (gray(20), COUNT, test, COUNT[:5]), strict=True))
    dataset = load(tmp_path, arrays)
    assert (len(dataset.train), len(dataset.validation), dataset.num_classes) == (18, 2, 3)
    np.testing.assert_array_equal(dataset.test.images[..., 0], test)
    np.testing.assert_array_equal(dataset.test.labels, COUNT[:5])


@pytest.mark.parametrize("key", ["val", "valid", "validation", "dev"])
def test_names_of_the_validation_split(tmp_path: Path, key: str):
    held = gray(4, seed=1)
    dataset = load(tmp_path, {"train_images": gray(20), f"{key}_images": held})
    np.testing.assert_array_equal(dataset.validation.images[..., 0], held)


def test_unnamed_arrays(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, gray(20), COUNT)
    dataset = data.load(str(path))
    assert dataset.num_classes == 3
    np.testing.assert_array_equal(np.sort(every(dataset), axis=None), np.sort(gray(20), axis=None))
    np.savez(path, gray(20), COUNT, gray(5), COUNT[:5])
    with pytest.raises(ValueError, match=r"several arrays .*'arr_0', 'arr_2'; .*'test_images'"):
        data.load(str(path))


@pytest.mark.parametrize(
    ("labels", "num_classes", "names"),
    [
        (COUNT[:, None], 3, None),
        (COUNT.astype(float), 3, None),
        (COUNT == 1, 2, None),
        (np.eye(5)[COUNT], 5, None),
        (np.eye(5, dtype=bool)[COUNT], 5, None),
        (np.array(["10", "2", "cat"])[COUNT], 3, ("2", "10", "cat")),
        (np.array([b"10", b"2", b"cat"])[COUNT], 3, ("2", "10", "cat")),
    ],
)
def test_labels_as_people_have_them(tmp_path: Path, labels: np.ndarray, num_classes: int, names):
    images = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None] * 12, (20, 2, 2))
    dataset = load(tmp_path, {"images": images, "labels": labels})
    assert (dataset.num_classes, dataset.class_names) == (num_classes, names)
    assert dataset.train.labels is not None
    meant = np.array([1, 0, 2])[COUNT] if names else np.asarray(labels == 1)
    meant = COUNT if num_classes in (3, 5) and not names else meant.astype(int)
    which = dataset.train.images[:, 0, 0, 0] // 12
    np.testing.assert_array_equal(dataset.train.labels, meant[which])


def test_names_of_classes_in_an_array(tmp_path: Path):
    arrays = {"images": gray(20), "labels": COUNT, "class_names": np.array(["a", "b", "c"])}
    dataset = load(tmp_path, arrays)
    assert dataset.class_names == ("a", "b", "c")
    assert "3 classes: 'a', 'b', 'c'" in dataset.notes
    for other in ("one text", ["a", "a", "b"], [["a"], ["b"], ["c"]]):
        with pytest.warns(data.DataWarning, match="arrays that are not used: 'class_names'"):
            assert load(tmp_path, {**arrays, "class_names": np.array(other)}).class_names is None


def test_a_class_that_only_another_split_has_is_a_warning(tmp_path: Path):
    """Such as the folder in which all images of that split lie."""
    arrays = {
        "train_images": gray(20),
        "train_labels": np.array(["a", "b"])[COUNT % 2],
        "val_images": gray(20),
        "val_labels": np.array(["images"] * 20),
    }
    with pytest.warns(
        data.DataWarning, match="validation has classes that train has not: 'images'$"
    ):
        load(tmp_path, arrays)


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(np.int16, 1), (np.int64, 1), (np.uint32, 1), (">i4", 1), (np.int64, 200), (">u2", 200)],
)
def test_integers_of_any_width(tmp_path: Path, dtype, factor: int):
    images = gray(20).astype(np.int64) * factor
    dataset = load(tmp_path, {"images": images.astype(dtype)})
    assert dataset.levels == (256 if factor == 1 else 65536)
    np.testing.assert_array_equal(np.sort(every(dataset), axis=None), np.sort(images, axis=None))
    mixed = {"train_images": images.astype(dtype), "test_images": images.astype(np.int32)}
    assert load(tmp_path, mixed).levels == dataset.levels


def test_what_is_not_needed_is_not_read_but_named(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez_compressed(
        path,
        images=gray(20),
        big=np.zeros(20_000_000, np.uint8),
        meta=np.array([{"a": 1}], dtype=object),
    )
    tracemalloc.start()
    with pytest.warns(data.DataWarning, match=r"not used: 'big' \(uint8 \[20000000\]\), 'meta' "):
        dataset = data.load(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert any("'big'" in note for note in dataset.notes)


def test_a_set_beyond_memory_is_refused_before_it_is_read(tmp_path: Path, monkeypatch):
    arrays = {"images": gray(100, (10, 10))}
    monkeypatch.setattr(memory, "available", lambda: 35_000)
    load(tmp_path, arrays)  # 10,000 bytes, three times
    monkeypatch.setattr(memory, "available", lambda: 25_000)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(ValueError, match=r"100 images of 10 x 10 x 1 would take about .*GiB"):
        load(tmp_path, arrays)
    with pytest.raises(ValueError, match=r"100 images of 10000 x 10000 x 1 .* by a smaller size"):
        load(tmp_path, arrays, size=(10_000, 10_000))
    monkeypatch.undo()
    free = memory.available()
    assert free is None or 10_000_000 < free < 10**15


BITS = (gray(20) > 127).astype(np.uint8)
WIDE = gray(20).astype(np.uint16) * 256


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"text": np.array(["a"])},
            r"holds text <U1 \[1\]; accepted: an array of images",
        ),
        ({"test_images": gray(9)}, r"holds test_images uint8 \[9, 6, 5\]; accepted: "),
        ({}, "holds no arrays; accepted: "),
        ({"images": gray(9) / 255}, "images have dtype float64; accepted: uint8"),
        ({"images": gray(9)[:, 0]}, r"shape \(9, 5\); accepted: \[N, H, W\]"),
        ({"images": gray(0)}, r"shape \(0, 6, 5\)"),
        ({"images": gray(9), "labels": np.arange(8)}, "accepted: 9 integers, one an image"),
        ({"images": gray(9), "labels": np.arange(9) / 2}, "labels are float64"),
        ({"images": gray(9), "labels": np.arange(9) - 1}, "none below 0"),
        ({"images": gray(9), "labels": np.array([*range(8), np.inf])}, "labels are float64"),
        ({"images": np.array([None] * 9)}, "dtype object.* pickled, and never read"),
        (
            {"images": gray(9), "labels": np.array(["a"] * 9, object)},
            "'labels' holds Python obj",
        ),
        ({"images": gray(9), "labels": np.ones((9, 3), int)}, "or one-hot vectors"),
        (
            {"images": gray(20), "labels": COUNT * 10**18},
            "labels go up to 2000000000000000000",
        ),
        (
            {"images": gray(20), "labels": COUNT * 2**40},
            "only 3 differ; accepted: numbers from 0 on",
        ),
        ({"images": gray(9, (3, 6, 5))}, r"\[N, C, H, W\]: images.transpose\(0, 2, 3, 1\) mends"),
        ({"images": gray(9, (1, 28, 28))}, r"\[N, C, H, W\]: images.transpose"),
        ({"images": gray(6, (5, 3, 20))}, r"\[H, W, C, N\]: images.transpose\(3, 0, 1, 2\) mends"),
        ({"images": gray(9, (784,))}, r"shape \(9, 784\).*; reshape\(-1, 28, 28\) may do"),
        ({"images": gray(9).astype(int) - 3}, "values -3 to .*; accepted: 0 to 65535"),
        ({"images": gray(9).astype(int) * 999}, "accepted: 0 to 65535"),
        ({"train_images": gray(9), "test_images": WIDE}, "of 8 bits and of 16 bits"),
        ({"train_images": gray(9), "test_images": WIDE.astype(int)}, "of 8 bits and of 16 bits"),
        ({"train_images": BITS, "test_images": BITS * 255}, "hold 0 and 1, others 0 and 255"),
        ({"train_images": BITS * 255, "test_images": BITS}, "hold 0 and 1, others 0 and 255"),
        ({"train_images": BITS > 0, "test_images": BITS * 255}, "hold 0 and 1, others 0 and 255"),
        ({"images": np.stack([BITS[0], BITS[1] * 255] * 5)}, "hold 0 and 1, others 0 and 255"),
        ({"train_images": BITS, "test_images": gray(9)}, r"range \(train 0 to 1, test 0 to 2"),
        (
            {"train_images": gray(9), "test_images": gray(9, (6, 5, 3))},
            "accepted: one number of channels",
        ),
        (
            {"x": gray(9), "data": gray(9)},
            r"several arrays .* the images of train: 'x', 'd",
        ),
        ({"images": gray(2)}, "what leaves one of the 2 images"),
        (
            {"train_images": gray(9), "test_images": gray(9, (5, 5))},
            "images of .* have sizes .*; accepted: one size",
        ),
        (
            {"train_images": gray(9), "test_images": gray(9), "test_labels": np.arange(9)},
            "labels of test; accepted: labels of every split, or of none",
        ),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict, message: str):
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, arrays)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 30, 0.5, -30])
def test_a_truncated_npz(tmp_path: Path, keep: float):
    path = Path(save_npz(tmp_path / "a.npz", images=gray(30)))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else int(keep)])
    with pytest.raises(ValueError, match=r"a.npz cannot be read: .*; accepted: .* whole"):
        data.load(DataConfig(str(path)))


def test_other_bad_npz_files(tmp_path: Path):
    np.save(tmp_path / "a.npy", gray(30))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a.npz cannot be read"):
        data.load(DataConfig(str(tmp_path / "a.npz")))
    path = save_npz(tmp_path / "mac.npz", images=gray(30))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("__MACOSX/._images.npy", b"no array")
    data.load(path)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("images.npy", b"no array")
    with pytest.raises(ValueError, match=r"b.npz"):
        data.load(DataConfig(str(tmp_path / "b.npz")))
    (tmp_path / "c.npz").mkdir()  # a folder may be named so
    with pytest.raises(ValueError, match=r"folder .*c.npz' holds no images"):
        data.load(DataConfig(str(tmp_path / "c.npz")))
    (tmp_path / "words.txt").write_text("words")
    with pytest.raises(ValueError, match=r"words.txt', a file that is no .npz; accepted"):
        data.load(DataConfig(str(tmp_path / "words.txt")))
