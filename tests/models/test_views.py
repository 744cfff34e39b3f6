"""Every autoregressive model: causal, normalised, and one model in two views."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import models, objectives
from gen_jax.layers import convolution
from gen_jax.models.shared.protocol import accelerator_form
from tests.cases import (
    CASES,
    MODELS,
    SMALLEST,
    TINY,
    dependencies,
    documented_field,
    every_case,
    every_image,
    every_model,
    generation_order,
    make,
    next_site_params,
    perturbed,
    some_images,
    some_labels,
    whole_image_params,
)
from tests.compilation import optimized

log_likelihood = jax.jit(objectives.log_likelihood, static_argnums=0)


def test_every_autoregressive_model_is_a_case():
    autoregressive = {
        name for name, m in models.MODELS.items() if issubclass(m, models.AutoregressiveModel)
    }
    assert autoregressive == {row.model.__name__ for row in MODELS.values()}


# Causality.


@every_case
def test_a_site_reads_exactly_the_documented_earlier_sites(x64, name, case):
    """Nothing at a site or after it in generation order, and all of the field before it."""
    model = make(name, case, (4, 5), **{**MODELS[name].deep, "dtype": "float64"})
    found, field = dependencies(model), documented_field(model)
    leaks = np.argwhere(found & ~field)
    unseen = np.argwhere(field & ~found)
    assert not leaks.size, f"(site, read although not before it or not in its field): {leaks}"
    assert not unseen.size, f"(site, not read although in its field): {unseen}"


@pytest.mark.parametrize("case", ["categorical-rgb", "mixture-rgb"])
@every_model
def test_a_shallow_model_is_causal_too(x64, name, case):
    """One layer: nothing at a site or after it is read; the site just before it is."""
    model = make(name, case, (2, 3), dtype="float64", num_layers=1)
    order = generation_order(model)
    found = dependencies(model, seeds=1)[order][:, order]
    assert not np.triu(found).any()
    assert found[1, 0]


# Normalisation.


ENUMERATED = [
    # The likelihoods, and their float32, are the same for all models.
    (name, *tiny, dtype, tolerance)
    for name, dtype, tolerance in [
        *((name, "float64", 1e-10) for name in MODELS),
        ("GatedPixelCNN", "float32", 1e-5),
    ]
    for tiny in (TINY if MODELS[name].multiple == 1 else [SMALLEST])
]


@pytest.mark.parametrize(
    ("name", "case", "size", "likelihood", "dtype", "tolerance"),
    ENUMERATED,
    ids=[f"{name}-{case}-{dtype}" for name, case, _, _, dtype, _ in ENUMERATED],
)
def test_probabilities_of_all_images_sum_to_one(name, case, size, likelihood, dtype, tolerance):
    many = size == SMALLEST[1]
    with jax.enable_x64(dtype == "float64"), optimized() if many else contextlib.nullcontext():
        fields = {"features": 2} if many else {}
        model = make(name, case, size, likelihood=likelihood, dtype=dtype, **fields)
        images = jnp.asarray(every_image(model))
        assert len(images) == likelihood.levels ** np.prod(model.image_shape)
        labels = None if model.num_classes is None else jnp.full(len(images), 1, jnp.int32)
        nats = np.asarray(log_likelihood(model, perturbed(model), images, labels), np.float64)
        np.testing.assert_allclose(np.exp(nats).sum(), 1, rtol=tolerance)
        assert np.ptp(nats) > 0.1  # not the uniform distribution


# Two views.


PRECISIONS = [(*case, "float64", 1e-10) for case in CASES]
# What differs by likelihood is seen in float64; float32 is another rounding of the same.
PRECISIONS += [(name, "categorical-rgb", "float32", 1e-5) for name in MODELS]


@pytest.mark.parametrize(
    ("name", "case", "dtype", "tolerance"),
    [
        pytest.param(*p, id="-".join(p[:3]), marks=[pytest.mark.quick] * (p[1] == "bernoulli"))
        for p in PRECISIONS
    ],
)
def test_steps_reproduce_the_whole_image(name, case, dtype, tolerance):
    """Teacher-forced steps give the parameters of the whole-image view, every bias off zero."""
    with jax.enable_x64(dtype == "float64"):
        model = make(name, case, dtype=dtype)
        for seed in range(2):
            variables = perturbed(model, seed)
            images, labels = some_images(model, 3, seed), some_labels(model, 3)
            whole = whole_image_params(model, variables, images, labels)
            steps = next_site_params(model, variables, images, labels)
            assert whole.dtype == steps.dtype == dtype
            scale = float(jnp.max(jnp.abs(whole)))
            np.testing.assert_allclose(steps, whole, rtol=0, atol=tolerance * scale)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {dtype}
        if dtype == "float64":  # nothing on the way is float32: a nudge of 1e-12 is seen
            nudged = jax.tree.map(lambda x: x * (1 + 1e-12), variables)
            for view, base in ((whole_image_params, whole), (next_site_params, steps)):
                moved = jnp.abs(view(model, nudged, images, labels) - base)
                assert 0 < float(jnp.max(moved)) < 1e-9 * scale


@pytest.mark.parametrize(
    ("name", "size", "batch"),
    # Where sizes are multiples of 4, both are rounded up, and each takes seconds to compile.
    [
        (name, size, batch)
        for name in MODELS
        for size, batch in [((1, 5), 2), ((5, 1), 1)][: 2 if MODELS[name].multiple == 1 else 1]
    ],
    ids=str,
)
def test_steps_reproduce_images_of_any_shape(x64, name, size, batch):
    """Narrower and flatter than the kernels, one alone; the deep fields, head width and dropout."""
    fields = {**MODELS[name].deep, "dropout": 0.5}
    fields.pop("num_resnets", None)  # each takes seconds to compile
    if hasattr(MODELS[name].model, "head_features"):
        fields["head_features"] = 5
    model = make(name, "categorical-rgb", size, dtype="float64", **fields)
    variables, images = perturbed(model), some_images(model, batch)
    whole = whole_image_params(model, variables, images, None)
    steps = next_site_params(model, variables, images, None)
    np.testing.assert_allclose(steps, whole, rtol=0, atol=1e-10 * float(jnp.max(jnp.abs(whole))))


@every_model
def test_bfloat16_computes_in_bfloat16_and_hands_out_float32(name):
    """Parameters and outputs are float32; both views are finite and near the float32 model."""
    model = make(name, "mixture-rgb", dtype="bfloat16")
    variables = perturbed(model)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    images, labels = some_images(model, 3), some_labels(model, 3)
    exact = whole_image_params(model.clone(dtype="float32"), variables, images, labels)
    scale = float(jnp.max(jnp.abs(exact)))
    for view in (whole_image_params, next_site_params):
        params = view(model, variables, images, labels)
        assert params.dtype == jnp.float32
        assert np.isfinite(params).all()
        error = float(jnp.max(jnp.abs(params - exact))) / scale
        assert 1e-5 < error < 0.1, "bfloat16 was not computed with, or is broken"


@pytest.mark.parametrize("case", ["categorical", "categorical-rgb"])
@pytest.mark.parametrize("name", ["PixelCNN", "GatedPixelCNN", "RowLSTM"])
def test_steps_where_rows_are_read_by_convolutions(x64, monkeypatch, name, case):
    """As programs compiled for CUDA do, in the form that they take of the model."""
    model = make(name, case, (4, 5), dtype="float64")
    variables, images, labels = perturbed(model), some_images(model, 3), some_labels(model, 3)
    expected = whole_image_params(model, variables, images, labels)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *x, cuda, default: cuda(*x))
    monkeypatch.setattr(convolution, "CACHED_WINDOWS", 0)
    other = accelerator_form(model)
    found = jax.jit(lambda *x: next_site_params.__wrapped__(other, *x))(variables, images, labels)
    scale = float(jnp.max(jnp.abs(expected)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * scale)
