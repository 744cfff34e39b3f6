"""The weights are small and in the wheel; damaged ones are one line."""

import configparser
import fnmatch
import pathlib

import pytest

import gen_jax
from gen_jax import pretrained
from tests.pages import ROOT
from tests.pretrained.names import ANY, NAMES


@pytest.mark.quick
def test_they_are_small_and_in_the_wheel():
    sizes = {p.name: p.stat().st_size for p in pretrained.FOLDER.iterdir() if p.is_file()}
    weights = {name: size for name, size in sizes.items() if name.endswith(".safetensors")}
    assert {name.removesuffix(".safetensors") for name in weights} == set(NAMES)
    assert max(weights.values()) <= 2e6
    assert sum(sizes.values()) <= 15e6
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["gen_jax"].split()
    for name in sizes:
        assert name.endswith(".py") or any(
            fnmatch.fnmatch(f"pretrained/{name}", pattern) for pattern in patterns
        ), name


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, r"\.safetensors is damaged"),
        (flip, r"\.safetensors is damaged"),
        (pathlib.Path.unlink, r"\.safetensors cannot be read: No such file"),
    ],
)
def test_damaged_weights_are_one_line(folder, damage, said):
    damage(folder / f"{ANY}.safetensors")
    with pytest.raises(ValueError, match=said) as caught:
        gen_jax.load(ANY)
    assert "\n" not in str(caught.value)
