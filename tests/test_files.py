"""A file is the old one or the new one."""

import errno
import os

import pytest

from gen_jax.files import write_atomically
from tests.training.run_folder import contents


def test_a_full_disk_leaves_the_old_text_and_no_other(tmp_path, monkeypatch):
    def fail(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "run.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: .*run\.json"):
        write_atomically(path, "new")
    assert contents(tmp_path) == {path: b"old"}
