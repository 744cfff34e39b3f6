"""A shipped model that may be damaged."""

import shutil

import pytest

from gen_jax import pretrained
from gen_jax.pretrained import shipped
from tests.pretrained.names import ANY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of one shipped model, to be damaged, in the place of all of them."""
    for suffix in (".json", ".safetensors"):
        shutil.copy(pretrained.FOLDER / f"{ANY}{suffix}", tmp_path)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    return tmp_path
