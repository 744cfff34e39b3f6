"""gen_jax.typing: the axis legend is complete."""

import re
from pathlib import Path

import pytest

import gen_jax.typing

pytestmark = pytest.mark.quick

ANNOTATION = re.compile(r"\b(?:Float|Int|Integer|UInt|Bool)\d*\[[^\[\]\"]*\"([^\"]*)\"")


def test_every_letter_stands_in_the_legend():
    """And every letter of the legend is used. Words say themselves what they are."""
    legend = re.findall(r"^((?:[A-Za-z]\w{0,2} )+) +\w", gen_jax.typing.__doc__, re.MULTILINE)
    legend = {letter for letters in legend for letter in letters.split()}
    source = Path(gen_jax.typing.__file__).parent.rglob("*.py")
    shapes = [shape for path in source for shape in ANNOTATION.findall(path.read_text())]
    axes = {axis.lstrip("*") for shape in shapes for axis in shape.split()}
    letters = {axis for axis in axes if re.search("[A-Z]", axis)}
    assert letters == legend
