"""experiments.compress and experiments.decompress: a file, and back."""

import shutil

import numpy as np
import pytest
from PIL import Image

from gen_jax import codec, data
from gen_jax.scripts import compress, decompress, formats
from tests.scripts.conftest import command


@pytest.fixture(scope="module", name="file")
def compressed(tiny_run, tmp_path_factory):
    """The first test images of a tiny run, and what was said of them."""
    path = tmp_path_factory.mktemp("codec") / "digits.gjx"
    result = command("compress", tiny_run, "-o", path, "--limit=6", "--batch-size=4")
    assert result.returncode == 0, result.stderr
    return path, result.stdout


def test_compressed_and_back(tiny_run, file, tmp_path):
    path, said = file
    result = command("decompress", tiny_run, path, "-o", tmp_path / "images.npz")
    assert result.returncode == 0, result.stderr
    expected = f"6 images, their levels bit for bit as they were; wrote {tmp_path}/images.npz\n"
    assert result.stdout == expected
    with np.load(tmp_path / "images.npz") as found:
        images = found["images"]
        assert images.shape == (6, 4, 4, 1)
    size = path.stat().st_size
    assert f"6 images of digits, test: {size} bytes, {8 * size / images.size:.4f} bits/dim" in said
    assert path.with_name("digits.gjx.png").read_bytes().startswith(b"\x89PNG")
    table = said[said.index("gen_jax, GatedPixelCNN") :]
    rows = [line.rsplit(maxsplit=3) for line in table.splitlines()[:-1]]
    assert rows[0] == ["gen_jax, GatedPixelCNN", str(size), f"{8 * size / images.size:.4f}", "1.00"]
    for name, numbers in zip(formats.sizes(images, 17).items(), rows[1:], strict=True):
        assert [name[0], f"{name[1]:,}"] == numbers[:2]


def test_images_and_labels_of_ones_own(tiny_class_run, tmp_path):
    """A .npz by its name, and all of it; labels come back."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 17, (5, 4, 4, 1)).astype(np.uint8)
    labels = np.array([3, 1, 4, 1, 5])
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    levels = ("--data.values=levels", "--data.levels=17", "--data.size=4", "4")
    compress.main([
        str(tiny_class_run), str(tmp_path / "mine.npz"), *levels, "--no-compare",
        f"--output={tmp_path}/mine.gjx",
    ])  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.gjx", "mine.npz"]
    arguments = [str(tiny_class_run), f"{tmp_path}/mine.gjx", f"--output={tmp_path}/back.npz"]
    decompress.main(arguments)
    with np.load(tmp_path / "back.npz") as found:
        np.testing.assert_array_equal(found["images"], images)
        np.testing.assert_array_equal(found["labels"], labels)
        assert list(found["class_names"]) == list("0123456789")


def test_mistakes_write_nothing(tiny_run, tiny_vae_run, tiny_class_run, file, tmp_path):
    path, _ = file
    content = path.read_bytes()
    (tmp_path / "there").write_text("mine")
    for name, some in {
        "other": b"what is this",
        "short": content[:-1],
        "turned": bytes([*content[:-1], content[-1] ^ 1]),
        "empty": b"",
    }.items():
        (tmp_path / name).write_bytes(some)
    there = {p: p.read_bytes() for p in tmp_path.iterdir()}
    new = ("-o", tmp_path / "new.npz")
    for arguments, match in [
        (("compress", tiny_run), "output is None; accepted: a file to write"),
        (("compress", tiny_run, "-o", tmp_path / "there"), "there is there; accepted: another"),
        (("compress", tiny_run, "-o", tmp_path), "a folder; accepted: a file"),
        (("compress", tiny_run, tmp_path / "none.npz", *new), "none.npz"),
        (("compress", tiny_run, *new, "--limit=0"), "limit is 0"),
        (("compress", tiny_run, *new, "--batch-size=5000"), "batch_size is 5000; accepted"),
        (("compress", tiny_vae_run, *new), "model is VAE; accepted: an autoregressive model"),
        (("decompress", tiny_run, path), "output is None; accepted: a file to write"),
        (("decompress", tiny_run, path, "-o", tmp_path / "there"), "is there; accepted: another"),
        (("decompress", tiny_run, path, "-o", tmp_path / "new"), "accepted: a .npz"),
        (("decompress", tiny_run, tmp_path / "none", *new), "cannot be read: "),
        (("decompress", tiny_run, tmp_path, *new), "cannot be read: "),
        (("decompress", tiny_run, tmp_path / "other", *new), "other: data begins with"),
        (("decompress", tiny_run, tmp_path / "short", *new), "short: data is cut short"),
        (("decompress", tiny_run, tmp_path / "turned", *new), "turned: data is damaged"),
        (("decompress", tiny_run, tmp_path / "empty", *new), "empty: data is cut short"),
        (("decompress", tiny_class_run, path, *new), "digits.gjx: data holds images of"),
        (("decompress", tiny_run, path, *new, "--step=2"), "digits.gjx: data is of another model"),
    ]:
        result = command(*arguments)
        assert (result.returncode, result.stdout) == (2, ""), arguments
        assert result.stderr.startswith("error: "), result.stderr
        assert result.stderr.count("\n") == 1
        assert match in result.stderr
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == there
    assert path.read_bytes() == content


def test_a_refused_run_leaves_no_folder_and_no_picture_among_the_images(tiny_run, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(pictures / "one.png")
    for output, images, match in [
        (pictures / "out.gjx", pictures, "inside the folder of images"),
        (pictures / "new" / "out.gjx", pictures, "inside the folder of images"),
        (tmp_path / "new" / "out.gjx", tmp_path / "none", "a path where nothing is"),
        (
            pictures / "one.png" / "out.gjx",
            pictures,
            r"but .*one\.png is a file; accepted: another",
        ),
    ]:
        with pytest.raises(ValueError, match=match):
            compress.main([str(tiny_run), str(images), f"--output={output}"])
    arguments = [str(tiny_run), str(pictures / "one.png"), f"--output={tmp_path}/new/back.npz"]
    with pytest.raises(ValueError, match="data begins with"):
        decompress.main(arguments)
    assert sorted(tmp_path.rglob("*")) == [pictures, pictures / "one.png"]


def test_the_images_themselves_are_not_written_over(tiny_run, tmp_path, monkeypatch):
    """Told to overwrite, too, and whatever their path is called."""
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "mine.npz", images=np.zeros((2, 4, 4), np.uint8))
    before = (tmp_path / "mine.npz").read_bytes()
    options = ("--data.values=levels", "--data.levels=17", "--overwrite", "--no-compare")
    with pytest.raises(ValueError, match=r"mine\.npz', the images themselves; accepted: another"):
        compress.main([str(tiny_run), str(tmp_path / "mine.npz"), *options, "--output=~/mine.npz"])
    assert (tmp_path / "mine.npz").read_bytes() == before


def test_what_was_done_to_the_images_is_said(tiny_run, tmp_path, capsys):
    """Bit for bit are the levels; a folder for the file is made."""
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3)).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", images=images)
    output = tmp_path / "new" / "mine.gjx"
    options = ("--data.grayscale", "--data.levels=17", "--no-compare", f"--output={output}")
    compress.main([str(tiny_run), str(tmp_path / "mine.npz"), *options])
    assert (
        "images are made grey, resized to 4 × 4, quantised to 17 levels, where they are not so "
        "already: the levels that this gives are compressed, bit for bit\n"
    ) in capsys.readouterr().out
    assert output.exists()


@pytest.mark.parametrize(
    ("config", "binarization", "done"),
    [
        ({}, "none", []),
        ({"binarize": "static"}, "static (as published)", []),
        ({}, "two levels, as stored", []),
        ({"binarize": "threshold", "levels": 2}, "threshold", ["made binary, threshold"]),
        ({"binarize": "dynamic"}, "dynamic", ["made binary, dynamic"]),
        ({"values": "levels", "levels": 17}, "none", []),
    ],
)
def test_what_is_done_to_images(config, binarization, done):
    assert compress._conversions(data.DataConfig(**config), binarization) == done


def test_what_is_there_is_written_over_when_told(tiny_run, file, tmp_path):
    shutil.copy(file[0], tmp_path / "file")
    (tmp_path / "images.npz").write_text("old")
    arguments = ("decompress", tiny_run, tmp_path / "file", "-o", tmp_path / "images.npz")
    assert command(*arguments).returncode == 2
    assert command(*arguments, "--overwrite").returncode == 0
    with np.load(tmp_path / "images.npz") as found:
        assert found["images"].shape == (6, 4, 4, 1)


def test_a_file_of_elsewhere_is_refused_unless_forced(tiny_run, file, tmp_path):
    held = codec.parse(file[0].read_bytes())
    object.__setattr__(held, "fingerprints", held.fingerprints._replace(machine=b"nowhere!"))
    (tmp_path / "moved").write_bytes(held.to_bytes())
    arguments = ("decompress", tiny_run, tmp_path / "moved", "-o", tmp_path / "images.npz")
    result = command(*arguments)
    assert result.returncode == 2
    assert "another kind or number of processors" in result.stderr
    assert command(*arguments, "--force").returncode == 0
