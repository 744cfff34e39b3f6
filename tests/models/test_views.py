"""Every autoregressive model: causal, normalised, one model in two views; JSON; bad input."""

import contextlib
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import likelihoods, models, objectives, sampling
from gen_jax.layers import convolution
from gen_jax.models.shared.protocol import accelerator_form
from tests.cases import (
    CASES,
    LIKELIHOODS,
    MODELS,
    SMALLEST,
    TINY,
    dependencies,
    every_case,
    every_image,
    every_model,
    generation_order,
    make,
    next_site_params,
    one_line_error,
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


def documented_field(model):
    """bool [N, N] by site id: the earlier sites that a model says it reads."""
    order = generation_order(model)
    rank = np.empty(order.size, int)
    rank[order] = np.arange(order.size)
    earlier = rank[None, :] < rank[:, None]
    if not hasattr(model, "receptive_field"):
        return earlier
    return model.receptive_field().reshape(order.size, order.size)


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


@pytest.mark.parametrize("name", ["PixelCNN", "RowLSTM"])
def test_no_path_leads_through_the_outside_of_the_image(x64, name):
    """Where later kernels reach further than the first, to the right too: the field is exact."""
    fields = {"first_kernel_size": 3, "kernel_size": 7, "features": 9, "dtype": "float64"}
    model = make(name, "bernoulli", (3, 7), **fields)
    np.testing.assert_array_equal(dependencies(model), documented_field(model))


PICTURES = {
    # What the pixel * reads through a first layer of 3 × 3 and `num_layers` blocks of 3 × 3,
    # drawn by hand: one column further to the right a row up, and no more.
    1: ["....#####.", "....####..", "....##*...", ".........."],
    3: ["..#######.", "..######..", "..####*...", ".........."],
}


@pytest.mark.parametrize("num_layers", PICTURES)
def test_blind_spot_of_pixel_cnn(num_layers):
    """The documented field is the cone of the paper's figure, here drawn by hand."""
    model = make("PixelCNN", "bernoulli", (4, 10), num_layers=num_layers, first_kernel_size=3)
    picture = np.array([list(row) for row in PICTURES[num_layers]])
    np.testing.assert_array_equal(model.receptive_field()[2, 6, 0, :, :, 0], picture == "#")


def test_blind_spot_stays_at_any_depth():
    """With k rows crossed, no more than k columns to the right: however many layers."""
    model = make("PixelCNN", "bernoulli", (5, 7), num_layers=40, first_kernel_size=3)
    field = model.receptive_field()[:, :, 0, :, :, 0]
    for r, c, up, left in np.ndindex(5, 7, 5, 7):
        earlier = (up, left) < (r, c)
        assert field[r, c, up, left] == (earlier and left - c <= r - up)


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


# Configuration.


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
        ({"features": 4.5}, "not a GatedPixelCNN: features is 4.5; accepted: whole numbers"),
        ({"depth": 3}, "not a GatedPixelCNN: .*depth"),
        ({"likelihood": {"name": "Bernoulli", "levels": 3}}, "not a GatedPixelCNN: .*levels"),
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


# Bad input.


def apply(model, images, labels=None):
    return model.apply(perturbed(model), images, labels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda h, w: np.zeros((2, h + 1, w, 1), np.int32), r"shape \(2, {h1}, {w}, 1\); {want}"),
        (lambda h, w: np.zeros((2, h, w, 3), np.int32), r"shape \(2, {h}, {w}, 3\); {want}"),
        (lambda h, w: np.zeros((h, w, 1), np.int32), r"shape \({h}, {w}, 1\); {want}"),
        (lambda h, w: np.zeros((2, h, w), np.int32), r"shape \(2, {h}, {w}\); {want}"),
        (
            lambda h, w: np.zeros((2, h, w, 1), np.float32),
            "dtype float32; accepted: integers 0 … 4",
        ),
        (lambda h, w: np.zeros((2, h, w, 1), bool), "dtype bool; accepted: integers 0 … 4"),
        (lambda h, w: np.full((2, h, w, 1), 5, np.uint8), "from 5 to 5; accepted: 0 … 4"),
        (lambda h, w: np.full((2, h, w, 1), -1, np.int32), "from -1 to -1; accepted: 0 … 4"),
    ],
)
@every_model
def test_wrong_images(name, images, message):
    model = make(name, "mixture")
    h, w, _ = model.image_shape
    wrong, want = images(h, w), rf".* \[B, {h}, {w}, 1\]"
    message = "images (has|goes) " + message.format(h=h, h1=h + 1, w=w, want=want)
    with one_line_error(message):
        apply(model, jnp.asarray(wrong))
    with one_line_error(message):
        objectives.log_likelihood(model, perturbed(model), wrong)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels is None; accepted, by a model with 2 classes: one an image"),
        (np.zeros(3, np.int32), r"labels has shape \(3,\); accepted: \(2,\), one an image"),
        (np.zeros((2, 1), np.int32), r"labels has shape \(2, 1\); accepted: \(2,\), one an image"),
        (np.zeros(2, np.float32), r"labels has dtype float32; accepted: integers 0 … 1"),
        (np.array([0, 2], np.int32), "labels goes from 0 to 2; accepted: 0 … 1"),
        (np.array([-1, 0], np.int32), "labels goes from -1 to 0; accepted: 0 … 1"),
    ],
)
@every_model
def test_wrong_labels(name, labels, message):
    model = make(name, "categorical")
    with one_line_error(message):
        apply(model, some_images(model, 2), labels)


@every_model
def test_labels_for_a_model_without_classes(name):
    model = make(name, "bernoulli")
    with one_line_error(r"labels is .*; accepted, by a model without classes: None"):
        apply(model, some_images(model, 2), jnp.zeros(2, jnp.int32))


@every_model
def test_inside_a_jit_what_does_not_exist_gives_nan(name):
    """A level or a label out of range, whose values no check can see: that image, no other."""
    model = make(name, "categorical", (2, 3), num_layers=1)
    variables = perturbed(model)
    images, labels = np.ones((6, *model.image_shape), np.int32), np.zeros(6, np.int32)
    images[1:3, -1, -1, 0] = -1, 3  # the last site, which no parameters depend on
    labels[3:5] = -1, 2
    wrong = np.array([False, True, True, True, True, False])

    @jax.jit
    def score(variables, images, labels):
        def total(variables):
            nats = objectives.log_likelihood(model, variables, images, labels)
            return jnp.sum(nats), nats

        gradient, nats = jax.grad(total, has_aux=True)(variables)
        carry = model.apply(variables, 6, labels, method="init_carry")
        return model.apply(variables, images, labels), nats, gradient, carry

    params, nats, gradient, carry = score(variables, images, labels)
    np.testing.assert_array_equal(np.isnan(nats), wrong)
    assert np.isnan(params)[wrong].all()
    assert not np.isnan(params)[~wrong].any()
    assert any(np.isnan(leaf).any() for leaf in jax.tree.leaves(gradient))
    assert any(np.isnan(leaf).any() for leaf in jax.tree.leaves(carry))
    clean = score(variables, np.abs(images) % 3, np.abs(labels) % 2)
    np.testing.assert_array_equal(clean[0][~wrong], params[~wrong])
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(clean))
