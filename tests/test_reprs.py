"""Models and results say in a line what they are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gen_jax
from gen_jax import data, likelihoods, models, objectives, sampling
from gen_jax.likelihoods import Bernoulli, Categorical  # for eval
from gen_jax.models import *  # noqa: F403
from gen_jax.training import evaluation

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("name", models.MODELS)
def test_a_model_is_the_call_that_makes_it(name):
    kind = models.MODELS[name]
    for model in (
        kind((28, 28, 1), Bernoulli()),
        kind((8, 8, 1), Categorical(17), num_classes=10, dtype="bfloat16"),
    ):
        assert eval(repr(model)) == model
        assert "\n" not in repr(model)
    assert repr(kind((28, 28, 1), Bernoulli())) == f"{name}((28, 28, 1), Bernoulli())"


def test_a_shipped_model():
    model, _ = gen_jax.load("gated-pixelcnn-mnist")
    assert repr(model) == (
        "GatedPixelCNN((28, 28, 1), Bernoulli(), features=32, dropout=0.1, num_layers=12, "
        "kernel_size=5)"
    )


def test_results_show_no_numbers_of_arrays():
    model = models.PixelCNN((2, 2, 1), likelihoods.Bernoulli(), features=4, num_layers=1)
    images = np.zeros((3, 2, 2, 1), np.uint8)
    variables = model.init(jax.random.key(0), images)
    request = sampling.to_sample(model, variables, jax.random.key(1), 3)
    count = sum(x.size for x in jax.tree.leaves(variables))
    assert repr(request) == (
        f"Request(variables=<{len(jax.tree.leaves(variables))} arrays, {count:,} numbers>, "
        "key=key<fry>[], ids=int32[3], given=int32[3, 2, 2, 1], temperature=1.0)"
    )
    generation = sampling.run(model, request)
    assert repr(generation) == "Generation(images=uint8[3, 2, 2, 1], passes=1)"
    assert repr(sampling.Chunk(images, 1)) == "Chunk(images=uint8[3, 2, 2, 1], passes=1)"
    terms = objectives.ELBOTerms(jnp.zeros(3), jnp.zeros((3, 2)))
    assert repr(terms) == "ELBOTerms(reconstruction=float32[3], kl=float32[3, 2])"
    scores = evaluation.Scores(np.zeros(3), {"kl": np.zeros(3)}, (2, 2, 1))
    assert repr(scores) == (
        "Scores(nats=float64[3], terms={kl: float64[3]}, image_shape=(2, 2, 1))"
    )
    # Inside a jit, too.
    jax.jit(lambda terms: repr(terms) and terms.elbo)(terms)


def test_scalars_that_cannot_be_read_show_their_type():
    donated = jnp.float32(1)
    donated.delete()
    shape: Any = jax.ShapeDtypeStruct((), jnp.float32)
    number: Any = np.float64(2)
    terms = objectives.ELBOTerms(donated, shape)
    assert repr(terms) == "ELBOTerms(reconstruction=float32[], kl=float32[])"
    terms = objectives.ELBOTerms(jnp.float32(1.5), number)
    assert repr(terms) == "ELBOTerms(reconstruction=1.5, kl=2.0)"


def test_a_data_set():
    digits = data.load("digits")
    assert repr(digits.test) == "Split(images=uint8[250, 8, 8, 1], labels=int32[250])"
    assert repr(digits).startswith("Dataset(name='digits', levels=17, binarization='none', ")
    assert len(repr(digits)) < 500


def test_an_evaluation():
    terms = {"reconstruction": -70.25, "kl_per_latent": [1.0, 2.0]}
    result = evaluation.Evaluation(-79.795, 0.197, 0.14684, 0.00037, 10_000, terms)
    assert repr(result) == (
        "Evaluation(-79.80 ± 0.20 nats, 0.1468 ± 0.0004 bits/dim, 10,000 images, "
        "reconstruction -70.25)"
    )
