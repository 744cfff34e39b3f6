"""experiments.benchmarks.sampling: a table whose numbers belong together."""

import json

import pytest

from experiments.benchmarks import sampling
from gen_jax import likelihoods, models
from tests.scripts.conftest import command


def test_measures_every_method(tmp_path):
    result = command(
        "benchmarks.sampling",
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
        "--known-rows=3",
        "--precision=highest",
        f"--output={tmp_path}",
    )
    assert result.returncode == 0, result.stderr
    assert "3 of 36 sites, scaled" in " ".join(result.stdout.split())
    assert "precision highest" in " ".join(result.stdout.split())
    written = json.loads((tmp_path / "sampling.json").read_text())
    assert (written["precision"], written["known_rows"]) == ("highest", 3)
    assert [(row["batch"], row["sites"]) for row in written["rows"]] == [(1, 36), (2, 36), (2, 64)]
    for row in written["rows"][:2]:
        assert set(row["methods"]) == {"scan", "naive", "fixed_point", "block_fixed_point"}
        assert 2 <= row["methods"]["fixed_point"]["passes"] <= 37
        for method in row["methods"].values():
            assert method["images_per_second"] == pytest.approx(row["batch"] / method["seconds"])
            assert method["compile_seconds"] > 0
            assert method.get("completing_over_all", 1) > 0
        completed = {
            name for name in row["methods"] if "completing_over_all" in row["methods"][name]
        }
        assert completed == {"scan", "fixed_point", "block_fixed_point"}
    assert (tmp_path / "sampling.png").stat().st_size > 1000


def test_attention_has_a_floor_of_memory_traffic(tmp_path):
    """And a model whose parameters belong to its image size is timed at other sizes too."""
    sampling.main(
        [
            "image-transformer-digits",
            "--model.features=8",
            "--model.num-layers=1",
            "--model.positions=learned",
            "--batch-sizes",
            "2",
            "--image-sizes",
            "4",
            "--methods",
            "scan",
            "--repeats=1",
            f"--output={tmp_path}",
        ]
    )
    rows = json.loads((tmp_path / "sampling.json").read_text())["rows"]
    assert [row["sites"] for row in rows] == [64, 16]
    for row in rows:
        floor = row["floor"]
        assert floor["seconds"] == max(floor["arithmetic_seconds"], floor["traffic_seconds"])
        assert min(floor.values()) > 0
        scan = row["methods"]["scan"]
        assert scan["over_floor"] == pytest.approx(scan["seconds"] / floor["seconds"])


def test_memory_traffic_is_what_a_sampler_must_read():
    """By hand: keys and values that each site attends to, and all parameters once a site."""
    model = models.ImageTransformer(
        (2, 3, 1), likelihoods.Bernoulli(), attention="full", features=4, num_layers=3, num_heads=2
    )
    parameters = 1000
    sites, images, sizes = 6, 5, {"float32": 4, "bfloat16": 2, "float64": 8}
    for dtype, size in sizes.items():
        cell = 2 * 3 * 4 * images * size  # key and value, layers, features
        read, held = sampling.traffic(model.clone(dtype=dtype), parameters, images)
        assert read == sites * (sites + 1) // 2 * cell + sites * parameters * size
        assert held == sites * cell + parameters * size
    # Of local attention a step reads its block and the one before, not the whole image.
    local = model.clone(attention="local_1d", query_block=2)
    assert sampling.traffic(local, 0, 1) == ((3 * 3 + 2 * 4) * 96, 4 * 96)
