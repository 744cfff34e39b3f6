"""The lines of metrics.jsonl, and the time that is left."""

import io

import numpy as np
import pytest
from rich.console import Console

from gen_jax import training
from gen_jax.training import records as records_file
from gen_jax.training.records import Records
from gen_jax.training.workdir import Workdir

pytestmark = pytest.mark.usefixtures("as_from_a_terminal")


def test_lines_of_nobody_in_the_metrics_are_passed_over(tmp_path):
    lines = [b'{"step": 1, "split": "train"}', b"\xff\xfe", b"[3]", b'{"step": "2"}', b"7", b""]
    lines += [b'{"step": 2, "split": "train"}', b'{"step": 3, "split": "train"}', b'{"step": 2, "s']
    workdir, said = Workdir(tmp_path), io.StringIO()
    workdir.metrics.write_bytes(b"\n".join(lines))
    assert [record["step"] for record in training.read_metrics(workdir)] == [1, 2, 3]
    with Records(workdir, 2, 20, 8, Console(file=said, width=500)):
        pass
    assert said.getvalue() == f"{workdir.metrics}: lines that no run has written, dropped: 5\n"
    assert [record["step"] for record in training.read_metrics(workdir)] == [1, 2]


def test_the_time_left_does_not_count_compilation(tmp_path, monkeypatch):
    monkeypatch.setattr(records_file, "_QUIET_SECONDS", -1.0)
    said = io.StringIO()
    with Records(Workdir(tmp_path), 0, 10, 8, Console(file=said, width=500)) as running:
        for step, seconds in enumerate([600.0, 2.0, 2.0, 3.0], start=1):
            running.train(step, {"bits_per_dim": np.float32(1)}, seconds, log=True)
    assert "left" not in said.getvalue().splitlines()[0]
    assert [line.rpartition(", ")[2] for line in said.getvalue().splitlines()[1:]] == [
        "16 s left",
        "14 s left",
        "18 s left",
    ]
    speeds = [
        record.get("images_per_second")
        for record in training.read_metrics(Workdir(tmp_path), "train")
    ]
    assert speeds == [None, 4.0, 4.0, pytest.approx(8 / 3)]
