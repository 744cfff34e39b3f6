"""What the source keeps to everywhere: how fields are documented, layers made, errors worded."""

import ast
import importlib
import inspect
import itertools
from pathlib import Path

import flax.linen as nn
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


def layers_in(file):
    """The layers that a file defines, by name."""
    module = importlib.import_module(f"gen_jax.layers.{file.stem}")
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if own and inspect.isclass(value) and issubclass(value, nn.Module):
            yield name, value


LAYERS = dict(itertools.chain(*map(layers_in, (PACKAGE / "layers").glob("[!_]*.py"))))


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_a_layer_takes_keywords(name):
    """A row of integers would not say which are features, groups or a reach."""
    parameters = inspect.signature(LAYERS[name]).parameters.values()
    assert not [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]


# Messages without "accepted", by file, and why.
OTHER_WORDING = {
    "pretrained/weights.py": "the reason alone: who calls it knows which file is damaged",
}


def errors_in(tree):
    """Every ValueError and TypeError that is made, and the handler that it is made in, if any."""
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    within = {id(node): handler for handler in handlers for node in ast.walk(handler)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name("ValueError" | "TypeError")):
                yield node, within.get(id(node))


def passes_on(error, handler):
    """Whether it is what an error of this kind said, with where before it."""
    match error.args, handler:
        case [ast.JoinedStr([*_, ast.FormattedValue(said)])], ast.ExceptHandler(kind, str(name)):
            caught = ast.unparse(kind).strip("()").split(", ")
            return name in ast.unparse(said) and {*caught} <= {"ValueError", "TypeError"}
    return False


def test_every_error_says_what_is_accepted():
    wrong, exempt = [], set()
    for file in PACKAGE.rglob("*.py"):
        name = str(file.relative_to(PACKAGE))
        for error, handler in errors_in(ast.parse(file.read_text())):
            if "accepted" in ast.unparse(error) or passes_on(error, handler):
                continue
            if name in OTHER_WORDING:
                exempt.add(name)
            else:
                wrong.append(f"{name}:{error.lineno}: {ast.unparse(error)}")
    assert not wrong
    assert exempt == OTHER_WORDING.keys()
