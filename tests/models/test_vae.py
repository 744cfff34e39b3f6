"""VAEs as models: sizes, likelihoods, precision, samples, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_jax import inversion, likelihoods, models, objectives, sampling, training
from tests.cases import one_line_error, perturbed, some_images, some_labels, whole_image_params
from tests.vaes import BERNOULLI, LIKELIHOODS, PIXELS, every_binary, vae

elbo = jax.jit(objectives.elbo, static_argnums=0)


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("case", LIKELIHOODS)
def test_models_of_any_size_train_and_sample(network, case):
    likelihood, channels = LIKELIHOODS[case]
    hidden = (4, 6, 8) if network == "conv" else (8,)
    model = models.VAE(
        (5, 7, channels), likelihood, 3, network=network, hidden=hidden, num_latents=2
    )
    variables, images, labels = perturbed(model), some_images(model, 4), some_labels(model, 4)
    params = whole_image_params(model, variables, images, labels)
    sites = likelihood.sites(channels)
    assert params.shape == (4, 35 * sites, likelihood.num_params(channels))

    @jax.jit
    @jax.value_and_grad
    def loss(variables, labels):
        return -jnp.mean(objectives.elbo(model, variables, jax.random.key(0), images, labels))

    nats, gradients = loss(variables, labels)
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.abs(gradient).max() > 0, f"{jax.tree_util.keystr(path)} is used"
    other, _ = loss(variables, (labels + 1) % 3)
    assert not np.allclose(other, nats), "the class matters"
    drawn = sampling.sample(model, variables, jax.random.key(1), 4, labels=labels)
    assert drawn.shape == images.shape
    assert int(drawn.max()) < likelihood.levels
    assert models.from_dict(models.to_dict(model)) == model


def test_bfloat16_computes_in_bfloat16_and_scores_in_float32():
    model = vae((4, 4, 1), 2, dtype="bfloat16")
    variables, images = perturbed(model), some_images(model, 2)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert whole_image_params(model, variables, images, None).dtype == jnp.float32
    exact = vae((4, 4, 1), 2)
    key = jax.random.key(0)
    ours = elbo(model, variables, key, images)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, elbo(exact, variables, key, images), rtol=0.05)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"num_latents": 0}, "num_latents is 0"),
        ({"hidden": ()}, r"hidden is \(\)"),
        ({"hidden": (3, 0)}, r"hidden is \(3, 0\)"),
        ({"hidden": (3, 2.5)}, r"hidden is \(3, 2.5\); accepted: one or more whole numbers"),
        ({"hidden": 3}, "hidden is 3; accepted: one or more whole numbers of at least 1"),
        ({"network": "conv", "hidden": (3,)}, "2 or more"),
        ({"network": "transformer"}, "network is 'transformer'"),
        ({"activation": "sine"}, "activation is 'sine'"),
        ({"latents": "poisson"}, "latents is 'poisson'"),
    ],
)
def test_bad_fields(fields, match):
    with one_line_error(match):
        vae(**fields)


def test_bad_calls():
    model = vae((2, 2, 1), 2)
    variables, images, key = perturbed(model), some_images(model, 2), jax.random.key(0)
    for codes, match in ((jnp.zeros((2, 3)), "shape"), (jnp.zeros((2, 2), jnp.int32), "int32")):
        with one_line_error(match):
            model.apply(variables, codes, method="decode")
    for call, match in (
        (lambda: objectives.reconstruction(model, variables, jnp.zeros((3, 2)), images), "codes"),
        (lambda: objectives.reconstruction(model, variables, jnp.zeros((2, 2)), images + 7), "7"),
        (
            lambda: objectives.log_likelihood(model, variables, images),
            "model is VAE; accepted: an autoregressive model",
        ),
        (
            lambda: inversion.encode_by_inversion(PIXELS, {}, images),
            "model is PixelCNN; accepted: an auto-enc",
        ),
        (lambda: objectives.elbo(PIXELS, {}, key, images), "model is PixelCNN; accepted: a VAE"),
        (
            lambda: objectives.iwae_bound(PIXELS, {}, key, images),
            "model is PixelCNN; accepted: a VAE",
        ),
    ):
        with one_line_error(match):
            call()
    with one_line_error("num_samples is 0"):
        objectives.elbo(model, variables, key, images, num_samples=0)
    with one_line_error("kl is 'exact'"):
        objectives.elbo(model, variables, key, images, kl="exact")
    with one_line_error("num_samples is 0"):
        objectives.iwae_bound(model, variables, key, images, num_samples=0)
    with one_line_error("chunk_size is 0"):
        objectives.iwae_bound(model, variables, key, images, chunk_size=0)
    bits = vae(latents="bernoulli")
    with one_line_error("estimator is 'doubly_reparametrized'; accepted, for discrete latents"):
        objectives.iwae_bound(bits, {}, key, images, estimator="doubly_reparametrized")
    with one_line_error("images has shape"):
        objectives.elbo(model, variables, key, images[:, :1])
    with one_line_error("labels is .*; accepted, by a model without classes"):
        objectives.elbo(model, variables, key, images, jnp.zeros(2, jnp.int32))
    with one_line_error("model is VAE; accepted: an autoregressive model"):
        sampling.complete(model, variables, key, images, np.zeros((2, 2, 1), bool))
    with one_line_error("method is 'naive'"):
        sampling.sample(model, variables, key, 2, method="naive")
    plain = models.AutoEncoder((2, 2, 1), BERNOULLI, num_latents=2, hidden=(4,))
    with one_line_error("accepted: one with a distribution over codes"):
        sampling.sample(plain, perturbed(plain), key, 2)


def test_samples_follow_the_model(x64):
    model = vae((1, 3, 1), 2, (3,), latents="bernoulli", dtype="float64")
    variables, images = perturbed(model), every_binary(1, 3)
    codes = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=2)))
    codes = jnp.broadcast_to(codes[:, None], (4, 8, 2)).astype(jnp.float64)
    fit = objectives.reconstruction(model, variables, codes, images)
    expected = np.exp(np.asarray(fit)).mean(axis=0)
    np.testing.assert_allclose(expected.sum(), 1, rtol=1e-12)
    count = 20_000
    drawn = np.asarray(sampling.sample(model, variables, jax.random.key(0), count))
    numbers = drawn.reshape(count, 3) @ np.array([4, 2, 1])
    seen = np.bincount(numbers, minlength=8)
    assert scipy.stats.chisquare(seen, expected * count).pvalue > 1e-4
    # Independent pixels would not do: the code couples them.
    ones = drawn.reshape(count, 3).mean(axis=0)
    apart = np.prod(np.where(images.reshape(8, 3) == 1, ones, 1 - ones), axis=1)
    assert scipy.stats.chisquare(seen, apart / apart.sum() * count).pvalue < 1e-6


def test_samples_do_not_depend_on_batch_or_devices():
    model = vae((3, 3, 1), 2, num_classes=2)
    variables, labels = perturbed(model), np.arange(8, dtype=np.int32) % 2
    key = jax.random.key(5)
    whole = np.asarray(sampling.sample(model, variables, key, 8, labels=labels))
    request = sampling.to_sample(model, variables, key, 8, labels=labels)
    chunks = [chunk.images for chunk in sampling.run_in_chunks(model, request, 3)]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
    mesh = training.make_mesh()
    assert mesh.size == 4
    spread = sampling.sample(model, variables, key, 8, labels=labels, mesh=mesh)
    np.testing.assert_array_equal(spread, whole)
    codes = sampling.prior_codes(model, variables, key, np.arange(8))
    params = model.apply(variables, codes, labels, method="decode")
    mode = sampling.sample(model, variables, key, 8, labels=labels, temperature=0.0)
    np.testing.assert_array_equal(mode, (params[..., 0] > 0).astype(np.uint8))


@pytest.mark.parametrize("latents", ["gaussian", "bernoulli"])
def test_inside_a_jit_what_does_not_exist_gives_nan(latents):
    """A level or a label out of range: bounds, codes, and codes by inversion."""
    model = vae((2, 2, 1), 2, num_classes=2, latents=latents, likelihood=likelihoods.Categorical(3))
    variables, key = perturbed(model), jax.random.key(0)
    images, labels = np.ones((5, 2, 2, 1), np.uint8), np.zeros(5, np.int32)
    images[1, 0, 0] = 3
    labels[2:4] = -1, 2
    wrong = np.array([False, True, True, True, False])

    @jax.jit
    def score(images, labels):
        posterior = model.apply(variables, images, labels, method="encode")
        results = {
            "elbo": objectives.elbo(model, variables, key, images, labels),
            "iwae": objectives.iwae_bound(model, variables, key, images, labels, 4, chunk_size=3),
            "mean": posterior.mean().sum(axis=-1),
            "params": model.apply(variables, images, labels).sum(axis=(1, 2, 3, 4)),
        }
        if latents == "gaussian":
            found = inversion.encode_by_inversion(model, variables, images, labels, num_steps=2)
            doubly = objectives.iwae_bound(
                model, variables, key, images, labels, 4, estimator="doubly_reparametrized"
            )
            results |= {"doubly": doubly, "log_joint": found.log_joint, "fit": found.reconstruction}
        return results

    for name, values in score(images, labels).items():
        np.testing.assert_array_equal(np.isnan(values), wrong, name)
    with jax.debug_nans(True):
        score(np.minimum(images, 2), np.abs(labels) % 2)
    plain = models.AutoEncoder((2, 2, 1), BERNOULLI, num_latents=2, hidden=(4,))
    weights = perturbed(plain)
    codes = jax.jit(lambda x: plain.apply(weights, x, method="encode"))(images)
    np.testing.assert_array_equal(np.isnan(codes).all(axis=-1), images.max((1, 2, 3)) > 1)
    bias = jax.jit(lambda x: plain.init(key, x))(images)["params"]["decoder"]["bias"]
    assert np.isnan(bias).all(), "an output that begins at such images"
