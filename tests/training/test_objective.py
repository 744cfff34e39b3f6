"""What training makes large: its value, which model it is for, and its settings as JSON."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import models, training
from tests.cases import one_line_error, perturbed, some_images
from tests.vaes import BERNOULLI, vae


@functools.partial(jax.jit, static_argnums=(0, 1))
def target_values(target, model, variables, images, nats=0.0):
    values = {"params": variables["params"], "running": {"nats": jnp.asarray(nats, jnp.float32)}}
    return target(model, values, {"images": images}, jax.random.key(0))


def test_beta_weighs_and_free_bits_spare_the_divergence():
    model = vae((3, 3, 1), 3)
    variables, images = perturbed(model), some_images(model, 6)
    plain, terms = target_values(training.ELBO(), model, variables, images)
    assert set(terms) == {"reconstruction", "kl", "kl_per_latent"}
    assert terms["kl_per_latent"].shape == (6, 3)
    np.testing.assert_allclose(terms["kl"], terms["kl_per_latent"].sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(plain, terms["reconstruction"] - terms["kl"], rtol=1e-6)
    heavy, _ = target_values(training.ELBO(beta=3.0), model, variables, images)
    np.testing.assert_allclose(heavy, terms["reconstruction"] - 3 * terms["kl"], rtol=1e-6)
    means = np.asarray(terms["kl_per_latent"]).mean(axis=0)
    free = float(np.sort(means)[:2].mean())  # one latent below, two above
    spared, _ = target_values(training.ELBO(free_bits=free), model, variables, images)
    expected = np.mean(terms["reconstruction"]) - np.maximum(means, free).sum()
    np.testing.assert_allclose(spared.mean(), expected, rtol=1e-5)
    # All latents spared: the divergence has no gradient left.
    with_terms, without = (
        jax.jit(jax.grad(lambda v, t=t: jnp.mean(target_values(t, model, v, images)[0])))(variables)
        for t in (training.ELBO(free_bits=100.0), training.ELBO(beta=0.0))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), with_terms, without)


def test_the_running_mean_is_the_constant_baseline():
    model = vae((2, 2, 1), 3, latents="bernoulli")
    variables, images = perturbed(model), some_images(model, 4)
    target = training.ELBO(estimator="score_function", baseline="constant")

    @jax.jit
    def gradient(nats):
        def value(v):
            return jnp.mean(target_values(target, model, v, images, nats)[0])

        return jax.flatten_util.ravel_pytree(jax.grad(value)(variables))[0]

    near, far = gradient(-2.5), gradient(-100.0)
    assert jnp.linalg.norm(far) > 5 * jnp.linalg.norm(near)


def test_every_objective_says_which_model_it_is_for():
    gaussian, bits = vae(), vae(latents="bernoulli")
    plain = models.AutoEncoder((2, 2, 1), BERNOULLI)
    with one_line_error("model is AutoEncoder; accepted, by the objective ELBO: a VAE"):
        training.ELBO().check(plain)
    with one_line_error("for discrete latents: score_function or straight_through"):
        training.ELBO().check(bits)
    with one_line_error("for real latents: reparametrized or score_function"):
        training.ELBO(estimator="straight_through").check(gaussian)
    with one_line_error("with the baseline leave_one_out: 2 or more"):
        training.ELBO(estimator="score_function", baseline="leave_one_out").check(gaussian)
    with one_line_error("baseline is .*; accepted, by the estimator .*: none"):
        training.ELBO(baseline="constant").check(gaussian)
    with one_line_error("model is VAE; accepted, by the objective IWAE: a VAE with Gaussian"):
        training.IWAE().check(bits)
    with one_line_error("estimator is 'score_function'; accepted: reparametrized, doubly_rep"):
        training.IWAE(estimator="score_function").check(gaussian)
    with one_line_error("chunk_size is 4; accepted, by the estimator doubly_reparametrized: None"):
        training.IWAE(5, 4, "doubly_reparametrized").check(gaussian)
    with one_line_error("model is VAE; accepted, by the objective LogLikelihood: an autoreg"):
        training.LogLikelihood().check(gaussian)
    for beta in (-1.0, math.inf):
        with one_line_error(f"beta is {beta}"):
            training.ELBO(beta=beta)
    training.ELBO(estimator="score_function").check(gaussian)
    training.IWAE(5, 5, "doubly_reparametrized").check(gaussian)
    training.Reconstruction().check(plain)


def test_objectives_survive_json():
    doubly = training.IWAE(7, estimator="doubly_reparametrized")
    for target in (training.ELBO(3, beta=0.5), training.IWAE(7), doubly, training.LogLikelihood()):
        assert training.target_from_dict(training.target_to_dict(target)) == target
    with one_line_error("objective is 'Nothing'; accepted: LogLikelihood, ELBO"):
        training.target_from_dict({"name": "Nothing"})
