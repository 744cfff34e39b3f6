"""What fits in memory, by an estimate."""

from pathlib import Path

import pytest
from PIL import Image

from gen_jax import data
from gen_jax.data import DataConfig, memory
from tests.image_sets import gray

pytestmark = pytest.mark.quick


def test_memory_is_estimated_by_what_results(tmp_path: Path, monkeypatch):
    for i, image in enumerate(gray(10, (20, 20, 3))):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(memory, "available", lambda: 10_000)
    data.load(DataConfig(str(tmp_path), size=(8, 8)))
    data.load(DataConfig(str(tmp_path), grayscale=True))
    with pytest.raises(ValueError, match="10 images of 20 x 20 x 3 would take"):
        data.load(str(tmp_path))
    monkeypatch.setattr(memory, "available", lambda: None)
    data.load(str(tmp_path))
