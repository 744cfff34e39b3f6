"""Bad arguments of sampling and completion: one clear line each."""

import jax
import numpy as np
import pytest

from gen_jax import sampling
from gen_jax.sampling import draw
from tests.cases import make, one_line_error, perturbed

BATCH = 8
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def conditional():
    model = make("GatedPixelCNN", "categorical")
    return model, perturbed(model)


@pytest.fixture(scope="module")
def unconditional():
    model = make("GatedPixelCNN", "mixture")
    return model, perturbed(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 0}, "num_images is 0; accepted: whole numbers of at least 1"),
        ({"num_images": -2}, "num_images is -2; accepted: whole numbers of at least 1"),
        ({"temperature": -0.5}, "temperature is -0.5; accepted: numbers in "),
        ({"temperature": float("nan")}, "temperature is nan; accepted: numbers in "),
        ({"temperature": float("inf")}, "temperature is inf; accepted: numbers in "),
        ({"method": "jacobi"}, "method is 'jacobi'; accepted: scan, naive, fixed_point, block_"),
        (
            {"labels": np.zeros(4, np.int32)},
            "labels is .*; accepted, by a model without classes: None",
        ),
        ({"first": -1}, "first is -1; accepted: whole numbers from 0 to"),
    ],
    ids=str,
)
def test_wrong_sample(unconditional, options, message):
    model, variables = unconditional
    with one_line_error(message):
        sampling.sample(model, variables, KEY, **{"num_images": 4, **options})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels is None; accepted, by a model with 2 classes: one an image"),
        (np.zeros(3, np.int32), r"labels has shape \(3,\); accepted: \(4,\), one an image"),
        (np.zeros(4, np.float32), "labels has dtype float32; accepted: integers 0 … 1"),
        (np.full(4, 2), "labels goes from 2 to 2; accepted: 0 … 1"),
        (np.array([0, 1, -1, 0]), "labels goes from -1 to 1; accepted: 0 … 1"),
    ],
    ids=str,
)
def test_wrong_labels(conditional, labels, message):
    model, variables = conditional
    with one_line_error(message):
        sampling.sample(model, variables, KEY, 4, labels=labels)
    with one_line_error(message):
        images = np.zeros((4, *model.image_shape), np.int32)
        sampling.complete(model, variables, KEY, images, images == 0, labels=labels)
    with one_line_error(message):
        sampling.to_sample(model, variables, KEY, 4, labels=labels)


@pytest.mark.parametrize(
    ("images", "known", "message"),
    [
        (np.zeros((2, 4, 3, 1), int), True, r"images has shape \(2, 4, 3, 1\); .* \[B, 3, 4, 1\]"),
        (np.zeros((3, 4, 1), int), True, r"images has shape \(3, 4, 1\); .* \[B, 3, 4, 1\]"),
        (np.zeros((2, 3, 4, 1)), True, "images has dtype float64; accepted: integers 0 … 4"),
        (np.full((2, 3, 4, 1), 5), True, "images goes from 5 to 5; accepted: 0 … 4"),
        (np.full((2, 3, 4, 1), -1), True, "images goes from -1 to -1; accepted: 0 … 4"),
        (np.zeros((2, 3, 4, 1), int), 2, "known goes from 2 to 2; accepted: 0 … 1"),
        (np.zeros((2, 3, 4, 1), int), 0.5, "known has dtype float64; accepted: bool, or 0 and 1"),
        (np.zeros((2, 3, 4, 1), int), [True, False], r"known has shape \(2,\); .*\(2, 3, 4, 1\)"),
        (np.zeros((2, 3, 4, 1), int), [[[[[True]]]]], r"known has shape \(1, 1, 1, 1, 1\); "),
    ],
)
def test_wrong_complete(unconditional, images, known, message):
    model, variables = unconditional
    with one_line_error(message):
        sampling.complete(model, variables, KEY, images, np.asarray(known))


def test_no_images_to_complete(unconditional):
    model, variables = unconditional
    images = np.zeros((0, *model.image_shape), int)
    with one_line_error(r"images .*\b0\b"):
        sampling.complete(model, variables, KEY, images, np.array(True))


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": None}, "labels is None; accepted, by a model with 2 classes: one an image"),
        ({"labels": np.array([0, 5, 0])}, "labels goes from 0 to 5; accepted: 0 … 1"),
        ({"given": np.full((3, 4, 4, 1), 99)}, "given goes from 99 to 99; accepted: 0 … "),
        (
            {"given": np.zeros((3, 4, 5, 1), int)},
            r"given has shape \(3, 4, 5, 1\); accepted: \(3, ",
        ),
    ],
    ids=str,
)
def test_a_request_of_ones_own_is_checked_too(conditional, fields, message, chunked):
    model = conditional[0].clone(image_shape=(4, 4, 1))
    variables = perturbed(model)
    images = np.zeros((3, 4, 4, 1), int)
    request = sampling.to_complete(model, variables, KEY, images, True, labels=0)._replace(**fields)
    with one_line_error(message):
        if chunked:
            sampling.run_in_chunks(model, request, 2)
        else:
            sampling.run(model, request)


def test_a_chunk_is_no_larger_than_what_is_asked(unconditional, monkeypatch):
    model, variables = unconditional
    request = sampling.to_sample(model, variables, KEY, 3)
    sizes = []

    def run(model, request, **options):
        sizes.append(len(request.ids))
        return sampling.run(model, request, **options)

    monkeypatch.setattr(draw, "run", run)
    (chunk,) = sampling.run_in_chunks(model, request, 64)
    assert (sizes, len(chunk.images)) == ([3], 3)


def test_a_temperature_that_xla_rounds_to_zero_is_zero(unconditional):
    model, variables = unconditional
    mode = sampling.sample(model, variables, KEY, 2, temperature=0)
    tiny = sampling.sample(model, variables, KEY, 2, temperature=1e-39)
    np.testing.assert_array_equal(tiny, mode)


@pytest.mark.parametrize(
    ("num_images", "chunk_size", "message"),
    [
        (0, 4, "num_images is 0; accepted: whole numbers of at least 1"),
        (4, 0, "chunk_size is 0; accepted: whole numbers of at least 1"),
        (4, -1, "chunk_size is -1; accepted: whole numbers of at least 1"),
    ],
)
def test_wrong_chunks(unconditional, num_images, chunk_size, message):
    model, variables = unconditional
    with one_line_error(message):
        request = sampling.to_sample(model, variables, KEY, num_images)
        sampling.run_in_chunks(model, request, chunk_size)


@pytest.mark.skipif(jax.device_count() < 4, reason="fewer than four devices")
def test_chunks_are_refused_at_the_call(unconditional):
    """Before anything is drawn, whatever it is that is wrong."""
    model, variables = unconditional
    images = np.zeros((4, *model.image_shape), int)
    whole = sampling.to_sample(model, variables, KEY, 4)
    half = sampling.to_complete(model, variables, KEY, images, True)
    for options, message in (
        ({"method": "jacobi"}, "method is 'jacobi'"),
        ({"mesh": jax.make_mesh((4,), ("data",))}, "3 images; accepted, over 4 devices: multiples"),
    ):
        for request in (whole, half):
            with one_line_error(message):
                sampling.run_in_chunks(model, request, 3, **options)
    with one_line_error("temperature is -1.0"):
        sampling.run_in_chunks(model, whole._replace(temperature=-1.0), 3)
    with one_line_error(r"variables has no 'params'"):
        sampling.run_in_chunks(model, whole._replace(variables={}), 3)
