"""What run.json says of a model: the same in every process, by names that can be imported."""

import dataclasses
import functools
import importlib
import json
import runpy
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import described, likelihoods, models, training

pytestmark = pytest.mark.quick


class Plain:
    """Keeps its settings to itself."""

    levels = 2


class Speaking(Plain):
    def __repr__(self):
        return f"Speaking of {object()}"


@dataclasses.dataclass(frozen=True)
class Scaled:
    scale: object = 1.5


class Network(nn.Module):
    image_shape: tuple[int, int, int]
    likelihood: object
    activation: object = nn.relu


def bound(model, variables, batch, key, weight=1.0):
    """An objective of one's own."""


class ELBO(training.Target):
    """Named as one of the library."""


@pytest.mark.parametrize(
    "make", [Plain, Speaking, lambda: Scaled(Plain()), lambda: Scaled(nn.relu)]
)
def test_two_of_one_kind_are_one_model(make):
    first, second = (Network((2, 2, 1), make(), functools.partial(nn.relu)) for _ in range(2))
    assert models.to_dict(first) == models.to_dict(second)
    assert "0x" not in json.dumps(models.to_dict(first))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (nn.relu, "jax.nn.relu"),
        (jax.nn.gelu, "jax.nn.gelu"),
        (jnp.sin, "jax.numpy.sin"),
        (bound, f"{__name__}.bound"),
        (Plain(), f"{__name__}.Plain"),
        (Scaled, f"{__name__}.Scaled"),
        (Scaled(2), {"name": f"{__name__}.Scaled", "scale": 2}),
        (np.float32(0.5), 0.5),
        (jnp.arange(3), [0, 1, 2]),
        (
            functools.partial(nn.leaky_relu, negative_slope=0.1),
            {"name": "jax.nn.leaky_relu", "keywords": {"negative_slope": 0.1}},
        ),
    ],
)
def test_a_field_is_what_it_says(value, expected):
    assert described.plain(value) == expected
    assert json.loads(json.dumps(expected)) == expected


def test_a_module_in_a_field_is_its_class_and_settings():
    said = described.plain(nn.Dense(3, name="given by Flax"))
    assert (said["name"], said["features"]) == ("flax.linen.linear.Dense", 3)
    assert "parent" not in said


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (bound, {"name": f"{__name__}.bound"}),
        (
            functools.partial(bound, weight=2.0),
            {"name": f"{__name__}.bound", "keywords": {"weight": 2.0}},
        ),
        (ELBO(), {"name": f"{__name__}.ELBO"}),
        (training.IWAE(7), training.target_to_dict(training.IWAE(7))),
    ],
    ids=["function", "partial", "class of a known name", "of the library"],
)
def test_an_objective_is_named_with_its_module(objective, expected):
    assert training.target_to_dict(objective) == expected
    if expected["name"] == "IWAE":
        assert training.target_from_dict(expected) == objective


SCRIPT = """
import dataclasses
from gen_jax import described, likelihoods, models

class Mine(models.PixelCNN):
    pass

@dataclasses.dataclass(frozen=True)
class Two(likelihoods.Bernoulli):
    pass

said = models.to_dict(Mine((2, 2, 1), Two()))
"""


def test_a_program_and_who_imports_it_name_its_classes_alike(tmp_path, monkeypatch):
    """What `python mine.py` has trained, `import mine` loads."""
    (tmp_path / "mine.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    run = runpy.run_path(str(tmp_path / "mine.py"), run_name="__main__")["said"]
    assert (run["model"], run["likelihood"]["name"]) == ("mine.Mine", "mine.Two")
    run_by_m = runpy.run_module("mine", run_name="__main__", alter_sys=True)["said"]
    assert run == run_by_m == importlib.import_module("mine").said


def test_what_is_typed_in_a_notebook_has_no_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    typed = type("Typed", (likelihoods.Bernoulli,), {"__module__": "__main__"})
    assert described.class_name(typed(), {}) == "__main__.Typed"
