"""What the source keeps to everywhere: what is handed on says what each part of it is."""

import ast
import itertools
from pathlib import Path

import pytest

import gen_jax

pytestmark = pytest.mark.quick

PACKAGE = Path(gen_jax.__file__).parent
FILES = sorted(
    file for folder in ("layers", "models", "sampling") for file in (PACKAGE / folder).rglob("*.py")
)


def named_tuples(file):
    """The definitions of its NamedTuples."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ClassDef):
            bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
            if "NamedTuple" in bases:
                yield node


def undocumented(definition):
    """Its fields with no string below them."""
    for field, below in itertools.pairwise([*definition.body, None]):
        match field, below:
            case ast.AnnAssign(), ast.Expr(ast.Constant(str())):
                pass
            case ast.AnnAssign(ast.Name(name)), _:
                yield name


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_every_field_of_a_named_tuple_says_what_it_is(file):
    for definition in named_tuples(file):
        assert ast.get_docstring(definition), definition.name
        assert not list(undocumented(definition)), definition.name


def test_there_are_named_tuples():
    found = {definition.name for file in FILES for definition in named_tuples(file)}
    assert found >= {"LSTMState", "GatedPixelCNNCarry", "Canvas"}
