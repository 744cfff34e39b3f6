"""What holds everywhere: fields documented, layers by keywords, errors worded, tests in place."""

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


TESTS = Path(__file__).parent
EXPERIMENTS = TESTS.parent / "experiments"
TEST_FILES = sorted(file.relative_to(TESTS) for file in TESTS.rglob("test_*.py"))

# Named after what they show, of several modules.
PROPERTIES = {
    "test_bounds.py",
    "test_conventions.py",
    "test_course.py",
    "test_docs.py",
    "test_gradients.py",
    "test_import.py",
    "test_open.py",
    "test_readme.py",
    "test_requirements.py",
    "likelihoods/test_draws.py",
    "likelihoods/test_log_prob.py",
    "models/test_blocks.py",
    "models/test_configuration.py",
    "models/test_views.py",
    "sampling/test_frequencies.py",
    "sampling/test_processes.py",
    "sampling/test_programs.py",
    "scripts/test_bad_input.py",
    "scripts/test_demo_page_browser.py",
    "scripts/test_options.py",
    "training/test_auto_encoder_runs.py",
    "training/test_bfloat16.py",
}

# What holds a module that has no file of its own.
ELSEWHERE = {
    "_version.py": "test_docs.py: it is the last of the changelog",
    "keys.py": "sampling/test_noise.py draws with keys of every kind; test_checks.py",
    "memory.py": "what the system says; data/test_memory.py decides by it",
    "layers/class_conv.py": "models/test_views.py: a layer of PixelCNN",
    "layers/class_embedding.py": "models/test_views.py, and models/shared/test_image_model.py",
    "layers/gated_resnet.py": "models/test_pixel_cnn_pp.py: a part of the published network",
    "layers/resolutions.py": "models/test_pixel_cnn_pp.py: a part of the published network",
    "layers/site_layer.py": "models/test_views.py: its loop is the view of a step",
    "models/gated_pixel_cnn.py": "models/test_views.py: it promises what every model does",
    "models/shared/autoregressive.py": "models/test_views.py: it is the base of every model",
    "models/shared/parameters.py": "test_checks.py: wrong parameters are among the wrong calls",
    "models/shared/protocol.py": "test_open.py: models that derive from nothing",
    "scripts/decompress.py": "scripts/test_compress.py: there and back",
    "training/checkpoint_files.py": "training/test_checkpoints.py damages them",
}


def mirrored(file):
    """The modules that a file of tests may be named after."""
    name = file.name.removeprefix("test_")
    modules = [PACKAGE / file.with_name(name)]
    if file.parts[0] == "scripts":  # and those that are called as experiments
        modules.append(EXPERIMENTS / Path(*file.parts[1:-1], name))
    return modules


def test_a_file_of_tests_is_named_after_a_module_or_a_property():
    found = {str(file) for file in TEST_FILES if not any(m.exists() for m in mirrored(file))}
    assert found == PROPERTIES


def test_every_module_has_a_file_of_tests():
    modules = {
        file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"
    }
    without = {str(m) for m in modules if m.with_name(f"test_{m.name}") not in TEST_FILES}
    assert without == ELSEWHERE.keys()


def imported_names(file):
    """The parts of all that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in node.names:
                yield from name.name.split(".")


def test_nothing_is_imported_from_a_file_of_tests():
    """What several need stands beside them: an imported test would be run twice."""
    for file in TESTS.rglob("*.py"):
        assert not [n for n in imported_names(file) if n.startswith("test_")], file
