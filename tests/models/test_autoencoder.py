"""Auto-encoders without a posterior: the code of an image, and learned codes."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from gen_jax import models, objectives, training
from tests.cases import one_line_error, perturbed, some_images
from tests.vaes import BERNOULLI


def test_the_code_is_a_bottleneck():
    model = models.AutoEncoder((3, 3, 1), BERNOULLI, num_latents=2, hidden=(4,))
    variables, images = perturbed(model), some_images(model, 5)
    codes = model.apply(variables, images, method="encode")
    assert codes.shape == (5, 2)
    np.testing.assert_allclose(
        model.apply(variables, images), model.apply(variables, codes, method="decode"), rtol=1e-6
    )
    np.testing.assert_allclose(
        objectives.reconstruction(model, variables, codes, images),
        BERNOULLI.log_prob(model.apply(variables, images), images).sum(axis=(1, 2, 3)),
        rtol=1e-5,
    )


def test_learned_codes_are_those_of_the_batch():
    model = models.ImplicitAutoEncoder(
        (3, 3, 1), BERNOULLI, num_latents=2, hidden=(4,), num_codes=9
    )
    variables, images = perturbed(model), some_images(model, 4)
    batch = {"images": images, "indices": jnp.asarray([7, 0, 3, 7], jnp.int32)}

    def value(variables):
        return training.LearnedCodes()(model, variables, batch, jax.random.key(0))

    nats, terms = value(variables)
    codes = variables["params"]["codes"][batch["indices"]]
    fit = objectives.reconstruction(model, variables, codes, images)
    np.testing.assert_allclose(terms["reconstruction"], fit, rtol=1e-5)
    prior = scipy.stats.norm.logpdf(np.asarray(codes)).sum(axis=-1)
    np.testing.assert_allclose(nats, fit + prior, rtol=1e-5)
    gradient = jax.grad(lambda v: jnp.sum(value(v)[0]))(variables)["params"]["codes"]
    touched = np.flatnonzero(np.abs(gradient).sum(axis=-1))
    assert touched.tolist() == [0, 3, 7]
    batch["indices"] = jnp.asarray([0, 1, 2, 9], jnp.int32)
    assert np.isnan(value(variables)[0]).tolist() == [False, False, False, True]
    del batch["indices"]
    with one_line_error("no indices"):
        value(variables)
