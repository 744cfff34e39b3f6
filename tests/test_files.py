"""A file is the old one or the new one."""

import errno
import os

import pytest

from gen_jax.files import replacing, write_atomically
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


def test_what_fails_half_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")

    def write_half():
        with replacing(path) as temporary:
            assert temporary.suffix == ".npz"
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert contents(tmp_path) == {path: b"old"}
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert contents(tmp_path) == {path: b"new"}
