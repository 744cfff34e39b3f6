"""Small models in float64, and drawing from them with one key: their samplers compile once."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import sampling
from tests.cases import MODELS, make, some_labels

BATCH = 8
KEY = jax.random.key(7)


def complete(model, variables, images, known, **options):
    """As int32, which `sample` uses inside: one compiled program for both."""
    images = jnp.asarray(images, jnp.int32)
    options = {"labels": some_labels(model, len(images)), **options}
    return np.asarray(sampling.complete(model, variables, KEY, images, known, **options))


def sample(model, variables, count=BATCH, **options):
    options = {"labels": some_labels(model, count), **options}
    return np.asarray(sampling.sample(model, variables, KEY, count, **options))


def in_double(name, case):
    """The model in float64 that all tests of a case share, so that its samplers compile once."""
    two = case == "categorical" and MODELS[name].depth == "num_layers"
    return make(name, case, dtype="float64", num_layers=2 if two else 1)


def run(model, variables, images, known, labels, method, temperature=1.0):
    ids = np.arange(len(images), dtype=np.int32)
    request = sampling.Request(variables, KEY, ids, images, known, labels, temperature)
    return sampling.run(model, request, method=method)
