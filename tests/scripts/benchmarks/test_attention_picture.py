"""experiments.benchmarks: pictures of attention, and memory of the Image Transformer."""

from experiments.benchmarks import attention_picture, memory
from tests.scripts.conftest import command


def test_draws_one_panel_a_kind(tmp_path):
    path = tmp_path / "new" / "attention.png"
    attention_picture.main([f"--output={path}", "--image-size=8", "--site", "5", "3"])
    assert path.stat().st_size > 1000


def test_memory_of_each_kind(capsys):
    memory.main(["--image-sizes", "4", "--num-layers=1"])
    table = capsys.readouterr().out
    assert all(kind in table for kind in ("local_1d", "local_2d", "full"))


def test_imagegpt_needs_packages_of_its_own():
    """Where they are missing, one line says so."""
    result = command("benchmarks.imagegpt", "--batch-sizes", "1", "--repeats", "1")
    if result.returncode:
        assert result.returncode == 2
        assert "pip install torch transformers" in result.stderr
        assert result.stderr.count("\n") == 1
    else:
        assert "ratio" in result.stdout
