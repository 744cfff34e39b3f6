"""experiments.demo: `make demo`, made short, in a process of its own as a user runs it."""

from tests.scripts.conftest import new_process


def test_demo_ends_with_a_score_and_pictures(tmp_path):
    result = new_process("demo", f"--workdir={tmp_path / 'demo'}", "--steps=3")
    assert result.returncode == 0, result.stderr
    assert "test: " in result.stdout
    for name in ("samples.png", "samples.gif", "completions.png", "surprise-test.png", "loss.png"):
        assert (tmp_path / "demo" / name).stat().st_size > 500
        assert name in result.stdout
