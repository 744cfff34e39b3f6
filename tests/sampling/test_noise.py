"""Noise belongs to an image: not to a batch, a device, or a generator."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from gen_jax import sampling
from tests.cases import every_model, make, perturbed, some_labels
from tests.sampling.in_double import KEY, in_double, sample
from tests.vaes import vae


@every_model
def test_noise_belongs_to_an_image(x64, name):
    """Eight at once, two batches of four, and chunks that do not divide: the same images."""
    model = in_double(name, "categorical")
    variables, labels = perturbed(model), np.asarray(some_labels(model, 8))
    together = sample(model, variables, 8, labels=labels)
    assert len(np.unique(together.reshape(8, -1), axis=0)) > 1
    halves = [
        sample(model, variables, 4, labels=labels[first : first + 4], first=first)
        for first in (0, 4)
    ]
    np.testing.assert_array_equal(np.concatenate(halves), together)
    request = sampling.to_sample(model, variables, KEY, 7, labels=labels[:7])
    chunks = [chunk.images for chunk in sampling.run_in_chunks(model, request, 4)]
    assert [len(chunk) for chunk in chunks] == [4, 3]
    np.testing.assert_array_equal(np.concatenate(chunks), together[:7])


def _codes(variables, model, key, ids):
    return sampling.prior_codes(model, variables, key, ids)


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_noise_belongs_to_an_image_whatever_the_generator(kind):
    """Also as JAX's default: one image alone, in a batch, and over four devices."""
    model, latent = make("GatedPixelCNN", "bernoulli"), vae((2, 2, 1), 3)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    keys = [jax.random.key(3, impl=kind)]
    with jax.default_prng_impl(kind):
        keys += [jax.random.key(3), jax.random.PRNGKey(3)]
        of_codes = functools.partial(_codes, perturbed(latent))
        for draw, of in ((sampling.site_noise, model), (of_codes, latent)):
            draw = jax.jit(draw, static_argnums=0)
            whole = [np.asarray(draw(of, key, jnp.arange(8))) for key in keys]
            assert len(np.unique(whole[0].reshape(8, -1), axis=0)) == 8
            for key, found in zip(keys, whole, strict=True):
                np.testing.assert_array_equal(found, whole[0])
                np.testing.assert_array_equal(draw(of, key, jnp.arange(5, 6)), found[5:6])
                spread = draw(of, key, jax.device_put(jnp.arange(8), split))
                np.testing.assert_array_equal(spread, found)
            other = draw(of, jax.random.split(keys[0])[0], jnp.arange(8))
            assert (other != whole[0]).all()
        images = sampling.sample(model, perturbed(model), keys[0], 4)
        np.testing.assert_array_equal(
            sampling.sample(model, perturbed(model), keys[2], 4, mesh=mesh), images
        )


def test_the_noise_of_a_threefry_key_is_of_the_key_itself():
    model = make("GatedPixelCNN", "bernoulli")
    eps = float(np.finfo(np.float32).eps)
    expected = [
        jax.random.uniform(jax.random.fold_in(jax.random.key(3), n), (12, 1), "float32", eps)
        for n in range(2)
    ]
    for key in (jax.random.key(3), jax.random.PRNGKey(3)):
        found = sampling.site_noise(model, key, jnp.arange(2))
        np.testing.assert_allclose(found, expected, atol=1e-6)
