"""The output of a decoder begins at the images that it is shown; black is nothing to an encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import likelihoods, models
from tests.cases import some_images
from tests.vaes import LIKELIHOODS


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("case", LIKELIHOODS)
def test_the_output_begins_at_the_images_it_is_shown(network, case):
    likelihood, channels = LIKELIHOODS[case]
    hidden = (4, 8) if network == "conv" else (8,)
    model = models.VAE((3, 4, channels), likelihood, network=network, hidden=hidden, num_latents=2)
    images = some_images(model, 300) * jnp.asarray([1, 0])[:, None].repeat(2, 0).reshape(1, 1, 4, 1)
    init = jax.jit(model.init)
    variables = init(jax.random.key(0), images)
    bias = variables["params"]["decoder"]["bias"]
    assert bias.ndim == 1, "weight decay spares it"
    bias = bias.reshape(1, 1, -1) if network == "conv" else bias.reshape(3, 4, -1)
    sites, params = likelihood.sites(channels), likelihood.num_params(channels)
    mean = np.asarray(likelihood.mean(bias.reshape(*bias.shape[:2], sites, params), channels))
    expected = np.asarray(images).mean(axis=0)
    if network == "conv":
        expected = expected.mean(axis=(0, 1), keepdims=True)
    np.testing.assert_allclose(mean, expected, atol=0.02)
    # One image, or none: nothing is certain yet.
    single = init(jax.random.key(0), images[:1])["params"]["decoder"]["bias"]
    assert np.isfinite(single).all()
    assert np.abs(single).max() < 8


def test_black_pixels_teach_a_dense_encoder_nothing():
    """Else a background's weights are biases, hundreds of them, that every update moves at once."""
    model = models.VAE((3, 4, 1), likelihoods.Bernoulli(), hidden=(5,), num_latents=2)
    images = jnp.zeros((2, 3, 4, 1), jnp.int32).at[:, 1, 2].set(1)
    variables = jax.jit(model.init)(jax.random.key(0), images)

    def total(variables):
        posterior = model.apply(variables, images, method="encode")
        return jnp.sum(posterior.mean())

    slopes = jax.jit(jax.grad(total))(variables)["params"]["encoder"]["layers_0"]["kernel"]
    read = np.asarray(images[0]).reshape(-1) > 0
    assert (slopes[read] != 0).any(axis=1).all()
    np.testing.assert_array_equal(slopes[~read], 0)
