"""What a part of the package imports is what setup.cfg says that it needs."""

import ast
import configparser
import pathlib
import re
import sys

import pytest

pytestmark = pytest.mark.quick

ROOT = pathlib.Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")

# module: package, where the names differ
PACKAGES = {
    "PIL": "pillow",
    "orbax": "orbax-checkpoint",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
}
# part of gen_jax: the extra that it needs; the others need none
EXTRAS = {
    "codec": "codec",
    "data": "data",
    "data_sources": "data",
    "figures": "figures",
    "scripts": "scripts",
}


def required(extra=None):
    """The packages that `pip install gen_jax[extra]` names."""
    text = SETUP["options"]["install_requires"]
    if extra is not None:
        text += SETUP["options.extras_require"][extra]
    for line in text.split():
        name, _, extras = re.split(r"[><=~]", line)[0].partition("[")
        if name == "gen_jax":
            for other in extras.rstrip("]").split(","):
                yield from required(other)
        yield name


def imported(file):
    """The packages outside the standard library that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            modules = [x.value for x in node.args if isinstance(x, ast.Constant)]
        for module in modules:
            name = module.split(".")[0]
            if name not in sys.stdlib_module_names:
                yield PACKAGES.get(name, name)


def needs(part):
    """What a part of gen_jax imports of other packages."""
    path = ROOT / "gen_jax" / part
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return {name for file in files for name in imported(file)} - {"gen_jax"}


PARTS = sorted(
    path.stem
    for path in (ROOT / "gen_jax").iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_needs_what_is_required(part):
    # TensorFlow is asked for in words, where a set is prepared; IPython is where a notebook is.
    apart = {"tensorflow", "IPython", "gen_jax_command"}
    assert needs(part) - apart <= set(required(EXTRAS.get(part)))


def test_the_hard_requirements_are_needed():
    needed = {name for part in PARTS if part not in EXTRAS for name in needs(part)}
    # The position that a run saves is a Grain iterator's.
    assert set(required()) <= needed | {"grain"}


def test_requirements_txt_pins_all_and_dev():
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    pinned = {name.lower().replace("_", "-") for name in pinned}
    for name in {*required("all"), *required("dev")} - {"gen_jax"}:
        assert name.lower().replace("_", "-") in pinned, name
