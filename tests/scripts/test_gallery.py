"""experiments.gallery: every shipped model is drawn, beside its nearest training images."""

import numpy as np
import pytest

from experiments import gallery
from tests.scripts.conftest import command


def test_draws_every_model(by_name):
    gallery.main([f"--output={by_name}"])
    page = by_name / "gallery.md"
    sections = gallery.read_sections(page)
    assert list(sections) == ["tiny", "tiny-vae"]
    assert "of 1,297 training images" in sections["tiny"]
    pictures = {path.name for path in (by_name / "gallery").glob("*.png")}
    assert pictures == {
        *(f"tiny-{what}.png" for what in ("samples", "nearest", "completions")),
        *(f"tiny-vae-{what}.png" for what in ("samples", "nearest", "reconstructions", "plane")),
    }
    assert all(f"](gallery/{name})" in page.read_text() for name in pictures)
    # One drawn anew changes its own section alone, and one that is gone is dropped.
    page.write_text(page.read_text().replace("1,297", "no") + "\n## gone\n\nwords\n")
    gallery.main(["tiny", f"--output={by_name}"])
    again = gallery.read_sections(page)
    assert again["tiny"] == sections["tiny"]
    assert again["tiny-vae"] == sections["tiny-vae"].replace("1,297", "no")
    assert list(again) == list(sections)


def test_what_has_a_code_and_no_encoder_completes_nothing(by_name, monkeypatch):
    """An implicit auto-encoder finds its codes by inversion."""
    monkeypatch.setattr(gallery, "has_encoder", lambda model: False)
    gallery.main(["tiny-vae", f"--output={by_name}"])
    pictures = {path.name for path in (by_name / "gallery").glob("*.png")}
    assert pictures == {"tiny-vae-samples.png", "tiny-vae-nearest.png"}


def test_neighbours_are_the_nearest():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 17, (50, 4, 4, 1), dtype=np.uint8)
    images = np.concatenate([train[7:8], rng.integers(0, 17, (5, 4, 4, 1), dtype=np.uint8)])
    distances, numbers = gallery.neighbours(images, train, 17)
    each = images[:, None].astype(int) - train[None]
    expected = np.sqrt((each**2).sum((2, 3, 4))) / 16
    assert (distances[0, 0], numbers[0, 0]) == (0, 7)
    np.testing.assert_array_equal(numbers, np.argsort(expected, axis=1, kind="stable")[:, :3])
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :3], rtol=1e-12)


@pytest.mark.quick
def test_an_unknown_name_is_one_line(tmp_path):
    result = command("gallery", "nobody", f"--output={tmp_path}")
    assert result.returncode == 2
    assert "name is 'nobody'" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
