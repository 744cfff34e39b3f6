"""experiments.benchmarks.demo_page: times of both models, in seconds."""

import re

import pytest

from experiments.benchmarks import chromium, demo_page


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium is found")
def test_times_each_model(capsys):
    demo_page.main(["--repeats=1"])
    rows = re.findall(
        r"([\w-]+-mnist)\D+(\d+)\D+(\d+\.\d\d)\D+(\d+\.\d\d)", capsys.readouterr().out
    )
    assert [(name, known) for name, known, _, _ in rows] == [
        (name, known)
        for name in ("gated-pixelcnn-mnist", "row-lstm-mnist")
        for known in ("0", "14")
    ]
    assert all(0 < float(computed) < float(shown) for *_, computed, shown in rows)
