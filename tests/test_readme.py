"""The README's code runs as it stands, and its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

from experiments.presets import PRESETS

README = Path(__file__).parents[1] / "README.md"


def test_python_example_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        assert len(block.strip().splitlines()) <= 15
        check = "assert images.shape == (16, 8, 8, 1), images.shape"
        script = tmp_path / "example.py"
        script.write_text(block + check)
        subprocess.run([sys.executable, script], cwd=tmp_path, check=True)


def test_commands_name_presets_and_modules_that_exist():
    text = README.read_text()
    for preset in re.findall(r"experiments\.train (\S+)", text):
        assert preset in PRESETS or preset == "PRESET", preset
    for module in re.findall(r"-m (experiments\.\w+)", text):
        assert (README.parent / (module.replace(".", "/") + ".py")).exists(), module
