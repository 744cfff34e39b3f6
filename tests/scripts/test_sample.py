"""experiments.sample: the images of the library's sampler, in files."""

import jax
import numpy as np
import pytest
from PIL import Image

import gen_jax
from gen_jax import sampling, training
from gen_jax.scripts import sample
from tests.scripts.conftest import command


def test_writes_the_samplers_images(tiny_run):
    result = command("sample", tiny_run, "--num-images=10", "--chunk-size=4", "--seed=3")
    assert result.returncode == 0, result.stderr
    images = np.load(tiny_run / "samples.npz")["images"]
    model, variables = gen_jax.load(tiny_run)
    expected = np.asarray(sampling.sample(model, variables, jax.random.key(3), 10))
    assert images.shape == expected.shape
    assert images.dtype == np.uint8
    assert np.mean(images != expected) <= 1e-3  # float32: other batches, other rounding
    with Image.open(tiny_run / "samples.png") as picture:
        assert picture.size[0] > 100
    with Image.open(tiny_run / "samples.gif") as animation:
        assert getattr(animation, "n_frames", 1) > 8


@pytest.mark.parametrize(
    ("method", "over"),
    [
        ("block_fixed_point", "a block, of which an image of 16 sites has 4"),
        ("fixed_point", "the whole image, of 16 sites"),
    ],
)
def test_says_how_many_passes_it_took(tiny_run, tmp_path, method, over):
    """The fewest and the most of its chunks; the scan, which takes one, says nothing."""
    options = ("--num-images=6", "--chunk-size=4", f"--output={tmp_path}", "--no-animate")
    result = command("sample", tiny_run, f"--method={method}", *options)
    assert result.returncode == 0, result.stderr
    model, variables = gen_jax.load(tiny_run)
    request = sampling.to_sample(model, variables, jax.random.key(0), 6)
    chunks = sampling.run_in_chunks(model, request, 4, method=method, mesh=training.make_mesh())
    passes = [chunk.passes for chunk in chunks]
    number = str(passes[0]) if len(set(passes)) == 1 else f"{min(passes)} to {max(passes)}"
    line = f"{method} took {number} passes over {over} for each of 2 chunks"
    assert line in result.stdout.splitlines()
    assert " passes over " not in command("sample", tiny_run, *options).stdout


def test_label_decides_the_class(tiny_class_run):
    sample.sample(
        sample.Options(str(tiny_class_run), num_images=8, label="3", chunk_size=8, animate=False)
    )
    assert (np.load(tiny_class_run / "samples.npz")["labels"] == 3).all()
