"""What importing costs, and which way imports go."""

import ast
import pathlib
import subprocess
import sys

import pytest

import gen_jax

from .heavy import HEAVY

pytestmark = pytest.mark.quick

PACKAGE = pathlib.Path(gen_jax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(file.relative_to(PACKAGE)) for file in FILES]


def imported(file):
    """Every module that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_import_is_light():
    """`import gen_jax` needs jax, flax and numpy, and nothing heavier."""
    code = f"""
import sys, jax, flax.linen
before = set(sys.modules)
import gen_jax
from gen_jax import likelihoods, models, objectives, sampling
loaded = {{name.partition(".")[0] for name in set(sys.modules)}}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(loaded & set({HEAVY})), sorted(new & {{"gen_jax"}}))
for name in set(gen_jax.__all__) - {{"load", "__version__"}}:
    assert getattr(gen_jax, name).__name__ == "gen_jax." + name
    assert name in dir(gen_jax)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[] ['gen_jax']"


RANK = {
    "typing": -2,
    "checks": -1,
    "described": 0,
    "fields": -1,
    "files": -1,
    "keys": -1,
    "memory": -1,
    "precision": 0,
    "progress": -1,
    "reprs": -1,
    "meshes": -1,
    "xla": -1,
    "likelihoods": 0,
    "layers": 1,
    "models": 2,
    "objectives": 3,
    "sampling": 3,
    "codec": 4,
    "inversion": 5,
    "pretrained": 5,
    "training": 6,
    "data": 4,
    "figures": 4,
    "scripts": 7,
}


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("__init__.py", "_version.py")])
def test_imports_go_one_way(name):
    """typing → checks → likelihoods, layers → models → objectives, sampling → … → scripts."""
    unit = pathlib.PurePath(name).parts[0].removesuffix(".py")
    for module in imported(PACKAGE / name):
        parts = module.split(".")
        assert parts[0] != "experiments", f"{name} imports {module}"
        if parts[0] == "gen_jax" and parts[1:2] != [unit] and parts[1:] != ["__version__"]:
            assert len(parts) > 1
            assert RANK[parts[1]] < RANK[unit], f"{name} imports {module}"


OWNERS = {
    "orbax": {"training/checkpoints.py"},
    "tensorflow_datasets": {"data/sources/tfds.py"},
    "tensorflow": {"data/sources/tfds.py"},
    "grain": {"data/batches.py"},
    "array_record": {"data/sources/tfds.py"},
    "sklearn": {"data/sources/__init__.py"},
    "matplotlib": {"figures.py"},
    "PIL": {"figures.py", "data/pixels.py", "data/sources/pictures.py", "scripts/formats.py"},
    "tyro": {"scripts/cli.py", "scripts/runs.py", "scripts/prepare.py", "scripts/train.py"},
    "safetensors": {"pretrained/weights.py"},
    "constriction": {"codec/entropy.py"},
    "optax": {"training/state.py", "inversion.py"},
}


@pytest.mark.parametrize("heavy", [*OWNERS, "tensorboardX"])
def test_a_heavy_dependency_has_one_file(heavy):
    found = {
        name
        for name, file in zip(NAMES, FILES, strict=True)
        if any(module.split(".")[0] == heavy for module in imported(file))
    }
    if heavy in OWNERS:
        assert found <= OWNERS[heavy]
    else:
        assert len(found) <= 1
        assert all(name.startswith("training/") for name in found)


@pytest.mark.parametrize("name", NAMES)
def test_no_private_jax(name):
    modules = list(imported(PACKAGE / name))
    assert not [m for m in modules if m.startswith("jax._src")]
