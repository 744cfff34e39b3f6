"""experiments.benchmark_sampling: a table whose numbers belong together."""

import json

import pytest

from tests.experiments.conftest import command


def test_measures_every_method(tmp_path):
    result = command(
        "benchmark_sampling",
        "--model.image-shape=6",
        "6",
        "1",
        "--model.features=4",
        "--model.num-layers=1",
        "--batch-sizes",
        "1",
        "2",
        "--image-sizes",
        "8",
        "--repeats=2",
        "--naive-sites=3",
        f"--output={tmp_path}",
    )
    assert result.returncode == 0, result.stderr
    assert "3 of 36 sites, scaled" in " ".join(result.stdout.split())
    written = json.loads((tmp_path / "sampling.json").read_text())
    assert [(row["batch"], row["sites"]) for row in written["rows"]] == [(1, 36), (2, 36), (2, 64)]
    for row in written["rows"][:2]:
        assert set(row["methods"]) == {"scan", "naive", "fixed_point"}
        assert 2 <= row["methods"]["fixed_point"]["passes"] <= 37
        for method in row["methods"].values():
            assert method["images_per_second"] == pytest.approx(row["batch"] / method["seconds"])
            assert method["compile_seconds"] > 0
    assert (tmp_path / "sampling.png").stat().st_size > 1000
