"""A prior with parameters of its own: a chain over a code's bits, given the class."""

import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gen_jax
from gen_jax import data, objectives, sampling, training
from gen_jax.models import VAE
from tests.cases import perturbed, some_images
from tests.vaes import BERNOULLI, every_binary, mean_and_error, over_keys

SHAPE, BITS, CLASSES = (2, 2, 1), 3, 2


class Chain(nn.Module):
    """p(z | y) = Π_j p(z_j | z_<j, y): logits linear in the bits before, and in the class."""

    def setup(self):
        self.weights = self.param("weights", nn.initializers.zeros, (BITS, BITS))
        self.bias = self.param("bias", nn.initializers.zeros, (CLASSES, BITS))

    def logits(self, codes, labels):
        bias = self.bias[jnp.asarray(labels)]
        bias = bias.reshape((1,) * (codes.ndim - 2) + bias.shape)
        return codes @ jnp.triu(self.weights, 1) + bias

    def log_prob(self, codes, labels=None):
        logits = self.logits(codes, labels)
        return codes * logits - jax.nn.softplus(logits)

    def sample(self, keys, labels=None):
        uniform = jax.vmap(lambda key: jax.random.uniform(key, (BITS,)))(keys)
        codes = jnp.zeros_like(uniform)
        for j in range(BITS):
            one = uniform[:, j] < jax.nn.sigmoid(self.logits(codes, labels)[:, j])
            codes = codes.at[:, j].set(one.astype(codes.dtype))
        return codes

    def kl(self, posterior, labels=None):
        return None


class ChainVAE(VAE):
    @property
    def prior(self):
        return Chain()


def chain_vae():
    return ChainVAE(
        SHAPE, BERNOULLI, num_classes=CLASSES, num_latents=BITS, hidden=(4,), latents="bernoulli"
    )


@pytest.fixture(scope="module")
def enumerated():
    """Model, variables, all images with each class, and log p(x | y) by a sum over all codes."""
    model = chain_vae()
    variables = perturbed(model)
    images = np.tile(every_binary(2, 2), (CLASSES, 1, 1, 1))
    labels = np.repeat(np.arange(CLASSES), 16)
    codes = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=BITS)))
    codes = jnp.broadcast_to(codes[:, None], (8, len(images), BITS))
    prior = model.apply(variables, codes, labels, method="prior_log_prob").sum(axis=-1)
    fit = objectives.reconstruction(model, variables, codes, images, labels)
    return model, variables, images, labels, np.asarray(jax.nn.logsumexp(prior + fit, axis=0))


def test_its_parameters_are_the_models_and_it_is_a_distribution(enumerated):
    _, variables, _, labels, nats = enumerated
    assert set(variables["params"]["code_prior"]) == {"weights", "bias"}
    for label in range(CLASSES):
        assert math.fsum(np.exp(nats[labels == label])) == pytest.approx(1, abs=1e-5)


def test_images_are_drawn_through_it(enumerated):
    model, variables, images, labels, nats = enumerated
    num = 20_000
    for label in range(CLASSES):
        drawn = sampling.sample(model, variables, jax.random.key(label), num, labels=label)
        counts = np.bincount(np.asarray(drawn).reshape(num, 4) @ [8, 4, 2, 1], minlength=16)
        expected = num * np.exp(nats[labels == label])
        np.testing.assert_array_equal(
            images[labels == label].reshape(16, 4) @ [8, 4, 2, 1], range(16)
        )
        # 15 degrees of freedom: 44 is passed by chance once in 10,000.
        assert ((counts - expected) ** 2 / expected).sum() < 44


def test_its_bounds_are_bounds(enumerated):
    model, variables, images, labels, nats = enumerated

    @jax.jit
    def bounds(key):
        return (
            objectives.elbo(model, variables, key, images, labels, 4),
            objectives.iwae_bound(model, variables, key, images, labels, 64),
        )

    elbo, iwae = map(np.asarray, jax.lax.map(bounds, jax.random.split(jax.random.key(0), 300)))
    (elbo, elbo_error), (iwae, iwae_error) = mean_and_error(elbo), mean_and_error(iwae)
    assert (elbo < iwae + 4 * elbo_error).all()
    assert (iwae < nats + 4 * iwae_error).all()
    assert (iwae > nats - 0.1).all()


@pytest.mark.parametrize(
    ("baseline", "beta"), [("none", 1.0), ("leave_one_out", 1.0), ("none", 3.0)]
)
def test_the_gradient_of_the_bound_is_right_on_average(enumerated, baseline, beta):
    """For the prior's parameters too, whatever β, and though its latents are coupled."""
    model, variables, images, labels, _ = enumerated
    images, labels = images[5::8], labels[5::8]
    codes = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=BITS)))
    codes = jnp.broadcast_to(codes[:, None], (8, len(images), BITS))

    def exact(variables):
        log_q = model.apply(variables, images, labels, method="encode").log_prob(codes)
        prior = model.apply(variables, codes, labels, method="prior_log_prob")
        fit = objectives.reconstruction(model, variables, codes, images, labels)
        nats = fit + beta * jnp.sum(prior - log_q, axis=-1)
        return jnp.mean(jnp.sum(jnp.exp(jnp.sum(log_q, axis=-1)) * nats, axis=0))

    objective = training.ELBO(2, beta=beta, estimator="score_function", baseline=baseline)
    batch = {"images": images, "labels": labels}

    def estimate(key):
        def bound(variables):
            return jnp.mean(objective(model, variables, batch, key)[0])

        return jax.flatten_util.ravel_pytree(jax.grad(bound)(variables))[0]

    found = over_keys(estimate, 4000)
    mean, error = mean_and_error(found)
    expected = jax.flatten_util.ravel_pytree(jax.jit(jax.grad(exact))(variables))[0]
    np.testing.assert_array_less(abs(mean - expected), 4.5 * error + 1e-5)


def test_a_baseline_that_needs_the_closed_form_is_refused():
    model = chain_vae()
    images = some_images(model, 2)
    with pytest.raises(ValueError, match="no closed form: 'none' and 'leave_one_out'"):
        objectives.elbo_terms(
            model,
            perturbed(model),
            jax.random.key(0),
            images,
            [0, 1],
            estimator="score_function",
            baseline="constant",
        )


def test_free_bits_of_coupled_latents_are_refused():
    model = chain_vae()
    batch = {"images": some_images(model, 2), "labels": jnp.arange(2)}
    objective = training.ELBO(2, free_bits=0.5, estimator="score_function")
    with pytest.raises(ValueError, match=r"free_bits is 0\.5; accepted, by a prior"):
        objective(model, perturbed(model), batch, jax.random.key(0))


def test_it_learns_with_the_model_and_is_loaded_with_it(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 256, np.int32)
    bright = np.where(labels, 0.9, 0.2)[:, None, None, None]
    split = data.Split((rng.random((256, *SHAPE)) < bright).astype(np.uint8), labels)
    dataset = data.Dataset("bits", 2, "none", CLASSES, split, split, split)
    model = chain_vae()
    objective = training.ELBO(4, estimator="score_function", baseline="leave_one_out")
    training.train(
        model,
        data.train_iterator(dataset, 32, 0),
        lambda: data.eval_batches(split, 64),
        training.TrainConfig(steps=60, batch_size=32, eval_every=30),
        tmp_path / "run",
        data={"name": "bits", "fingerprint": "0"},
        objective=objective,
        examples=split.images[:64],
    )
    _, variables = gen_jax.load(tmp_path / "run", model=model)
    prior = variables["params"]["code_prior"]
    assert all(np.abs(leaf).max() > 0 for leaf in prior.values())
    scored = training.evaluate(
        model,
        variables["params"],
        data.eval_batches(split, 64),
        jax.random.key(0),
        objective.evaluation,
    )
    assert 0 < scored.bits_per_dim < 1.2
