"""Scores of a whole split: each example once, and nothing that is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import models, training
from gen_jax.training.evaluation import Scores

from . import tiny
from .toy import Toy

PLAIN = Toy()


def test_a_score_that_is_not_finite_is_no_result():
    with pytest.raises(training.NonFiniteError, match=r"1 of 3 images .*: image 1 has nan nats"):
        Scores(np.array([-1.0, np.nan, -2.0]), {}, tiny.SHAPE).mean()
    alone = Scores(np.array([-1.0]), {}, tiny.SHAPE).mean().as_dict()
    assert alone["nats_standard_error"] is None, "JSON has no NaN"


def brightness(model, variables, batch, key):
    """NaN for the padding of `padded`, so that a product with the mask would show."""
    del model, variables, key
    nats = jnp.log(16.5 - batch["images"].sum((1, 2, 3)).astype(jnp.float32))
    nats = jnp.where(batch["images"].max((1, 2, 3)) > 1, jnp.nan, nats)
    return nats, {"double": 2 * nats}


def padded(count):
    for batch in tiny.evaluation(count=count):
        mask = batch["mask"][:, None, None, None]
        yield batch | {"images": np.where(mask, batch["images"], np.uint8(2))}


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 21, 31])
def test_masked_evaluation_is_the_plain_mean(count):
    images = tiny.make_images(count, seed=1).astype(np.float64)
    nats = np.log(16.5 - images.sum((1, 2, 3)))
    result = training.evaluate(PLAIN, {}, padded(count), jax.random.key(0), brightness)
    assert result.count == count
    np.testing.assert_allclose(result.nats, nats.mean(), rtol=1e-6)
    np.testing.assert_allclose(result.terms["double"], 2 * nats.mean(), rtol=1e-6)
    np.testing.assert_allclose(result.bits_per_dim, -nats.mean() / np.log(2) / 16, rtol=1e-6)
    if count > 1:
        error = nats.std(ddof=1) / np.sqrt(count)
        np.testing.assert_allclose(result.nats_standard_error, error, rtol=1e-6)
        bits = error / np.log(2) / 16
        np.testing.assert_allclose(result.bits_per_dim_standard_error, bits, rtol=1e-6)


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ValueError, match="there are 0 batches to evaluate; accepted: one"):
        training.evaluate(PLAIN, {}, [], jax.random.key(0), brightness)


def test_what_is_of_training_is_off():
    """Dropout, and a baseline that is a mean over the steps of training."""
    key, batches = jax.random.key(0), list(tiny.evaluation())
    params = tiny.MODEL.init(key, tiny.make_images(1))["params"]
    scores = [
        training.score(tiny.MODEL, params, batches, key, objective).nats
        for objective in (training.LOG_LIKELIHOOD, training.LOG_LIKELIHOOD.evaluation)
    ]
    np.testing.assert_array_equal(*scores)
    vae = models.VAE(tiny.SHAPE, tiny.MODEL.likelihood, num_latents=2, hidden=(4,))
    params = vae.init(key, tiny.make_images(1))["params"]
    means = [
        training.evaluate(vae, params, batches, key, training.ELBO(**options)).nats
        for options in ({}, {"estimator": "score_function", "baseline": "constant"})
    ]
    assert means[0] == pytest.approx(means[1], rel=1e-6)
