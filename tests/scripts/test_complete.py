"""experiments.complete: what is known stays, the rest is drawn."""

import re

import numpy as np
import pytest

from gen_jax import data
from gen_jax.scripts import complete
from tests.scripts.conftest import command


def test_completes_half_hidden_test_images(tiny_run):
    result = command("complete", tiny_run, "--num-images=3", "--num-completions=2")
    assert result.returncode == 0, result.stderr
    written = np.load(tiny_run / "completions.npz")
    originals = data.load(data.DataConfig("digits", size=(4, 4))).test.images[:3]
    np.testing.assert_array_equal(written["originals"], originals)
    completions = written["completions"]
    assert completions.shape == (3, 2, 4, 4, 1)
    np.testing.assert_array_equal(completions[:, :, :2], originals[:, None, :2].repeat(2, 1))
    assert (completions[:, 0] != completions[:, 1]).any()
    assert (completions[:, :, 2:] != originals[:, None, 2:]).any()


def test_says_how_many_passes_it_took(tiny_run, tmp_path):
    """Blocks known whole take one pass each, the first of two halves."""
    options = ("--num-images=2", "--num-completions=1", f"--output={tmp_path}")
    result = command("complete", tiny_run, "--method=block_fixed_point", *options)
    pattern = (
        r"^block_fixed_point took (\d+) passes over a block, of which an image of 16 sites has 4$"
    )
    (passes,) = re.findall(pattern, result.stdout, re.MULTILINE)
    assert 4 <= int(passes) <= 2 + 2 * 5


@pytest.mark.parametrize("known", ["left", "centre", "checkerboard"])
def test_every_named_mask_knows_a_part(tiny_run, known):
    options = complete.Options(str(tiny_run), known=known, num_images=2, num_completions=1)
    complete.complete(options)
    written = np.load(tiny_run / "completions.npz")
    assert 0 < written["known"].mean() < 1
    kept = np.broadcast_to(written["known"], written["originals"].shape)
    assert (written["completions"][:, 0][kept] == written["originals"][kept]).all()
