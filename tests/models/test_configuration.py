"""Every autoregressive model: the same after JSON, equal if its fields are; fields out of range."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from gen_jax import likelihoods, models, sampling
from tests.cases import CASES, LIKELIHOODS, MODELS, every_case, every_model, make, one_line_error


@every_case
def test_json_gives_the_model_back(name, case):
    """to_dict and from_dict through JSON text: equal, of equal hash, tuples as tuples."""
    model = make(name, case, dropout=0.25, dtype="bfloat16")
    text = json.dumps(models.to_dict(model))
    copy = models.from_dict(json.loads(text))
    assert copy == model
    assert hash(copy) == hash(model)
    assert type(copy) is type(model)
    assert isinstance(copy.image_shape, tuple)
    for field in dataclasses.fields(model):
        if field.name not in ("parent", "name"):
            assert getattr(copy, field.name) == getattr(model, field.name)
            assert type(getattr(copy, field.name)) is type(getattr(model, field.name))


def test_every_model_and_likelihood_is_in_the_tables():
    assert {type(likelihood) for likelihood, *_ in LIKELIHOODS.values()} == set(
        likelihoods.LIKELIHOODS.values()
    )
    assert {MODELS[name].model for name, _ in CASES} <= set(models.MODELS.values())


def test_models_that_differ_are_not_equal():
    """Equality decides what jit compiles anew."""
    a = make("GatedPixelCNN", "mixture")
    assert a != a.clone(features=8)
    assert a != make("PixelCNN", "mixture")
    assert a != a.clone(likelihood=likelihoods.DiscretizedLogisticMixture(5, 3))
    assert a != a.clone(likelihood=likelihoods.Categorical(5))


CONFIG = {"model": "GatedPixelCNN", "image_shape": [4, 4, 1], "likelihood": {"name": "Bernoulli"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "PixelVAE"}, "model is 'PixelVAE'.*; accepted: .*GatedPixelCNN"),
        ({"model": None}, "model is None; accepted: "),
        ({"likelihood": {"name": "Poisson"}}, "likelihood is 'Poisson'; accepted: Bernoulli"),
        ({"likelihood": {}}, "likelihood is None; accepted: Bernoulli"),
        ({"likelihood": None}, "likelihood is None; accepted: "),
        ({"likelihood": {"name": ["Bernoulli"]}}, r"likelihood is \['Bernoulli'\]; accepted: "),
        ({"features": 4.5}, "GatedPixelCNN: features is 4.5; accepted: whole numbers"),
        ({"depth": 3}, "GatedPixelCNN has no field 'depth'; accepted: image_shape, "),
        (
            {"likelihood": {"name": "Bernoulli", "levels": 3}},
            "Bernoulli has no field 'levels'; accepted: none of its own",
        ),
        ({"likelihood": {"name": "Categorical", "levels": 1}}, "levels is 1; .* 2 to 65536"),
        ({"features": 0}, "features is 0; accepted: whole numbers of at least 1"),
    ],
    ids=str,
)
def test_from_dict_says_what_is_wrong(change, message):
    models.from_dict(CONFIG)
    with one_line_error(message):
        models.from_dict({**CONFIG, **change})


def test_a_class_that_is_not_in_the_table_is_named_in_full():
    """Of the same name as one of ours, too: it is another."""

    class GatedPixelCNN(models.GatedPixelCNN):
        pass

    fields = models.to_dict(GatedPixelCNN((2, 2, 1), likelihoods.Bernoulli()))
    assert fields["model"].startswith(f"{__name__}.")
    with one_line_error("model is '.*GatedPixelCNN'.*; accepted: PixelCNN, .* given as model=…"):
        models.from_dict(fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_shape": (4, 4)}, r"image_shape is \(4, 4\); "),
        ({"image_shape": (4, 0, 1)}, r"image_shape is \(4, 0, 1\); "),
        ({"num_classes": 0}, "num_classes is 0; accepted: whole numbers of at least 1"),
        ({"features": 0}, "features is 0; accepted: whole numbers of at least 1"),
        ({"features": -8}, "features is -8; accepted: whole numbers of at least 1"),
        ({"num_layers": 0}, "num_(layers|resnets) is 0; accepted: whole numbers of at least 1"),
        ({"dropout": 1.5}, "dropout is 1.5; accepted: numbers in "),
        ({"dropout": -0.1}, "dropout is -0.1; accepted: numbers in "),
        ({"dropout": float("nan")}, "dropout is nan; accepted: numbers in "),
        ({"dtype": "float16"}, "dtype is 'float16' .*; accepted: float32, bfloat16, float64"),
    ],
    ids=str,
)
@every_model
def test_fields_out_of_range(name, fields, message):
    with one_line_error(message):
        make(name, "bernoulli", **fields)


@pytest.mark.parametrize("field", ["kernel_size", "first_kernel_size"])
@pytest.mark.parametrize("size", [-1, 0, 1, 2, 4])
@pytest.mark.parametrize("name", ["PixelCNN", "GatedPixelCNN", "RowLSTM", "DiagonalBiLSTM"])
def test_kernel_sizes_are_odd_and_at_least_three(name, field, size):
    if not hasattr(MODELS[name].model, field):
        assert name == "DiagonalBiLSTM"
        return
    with one_line_error(f"{field} is {size}; accepted: odd whole numbers of at least 3"):
        make(name, "bernoulli", **{field: size})


def test_float64_needs_x64():
    """Without jax_enable_x64 a float64 model would quietly compute in float32."""
    model = make("GatedPixelCNN", "bernoulli", dtype="float64")
    with one_line_error("float64.*jax_enable_x64"):
        model.apply(
            {"params": {}},
            jnp.zeros((1, 3, 4, 1), jnp.int32),
        )
    with one_line_error("float64.*jax_enable_x64"):
        sampling.sample(model, {"params": {}}, jax.random.key(0), 1)
