"""Each shipped model scores as its card says, on images that are fixed."""

import jax
import numpy as np
import pytest

import gen_jax
from gen_jax import models, pretrained
from tests.pretrained.names import every_model


@every_model
def test_scores_fixed_images_as_its_card_says(name):
    card = pretrained.card(name)
    model, variables = gen_jax.load(name)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(variables))
    images, labels = pretrained.fixed_images(model)
    assert len(images) == len(card.check.nats) == 64
    assert card.check.measure == pretrained.fixed_measure(model)
    nats = pretrained.fixed_scores(model, variables, images, labels)
    np.testing.assert_allclose(nats, card.check.nats, rtol=2e-4, atol=2e-3)


@pytest.mark.quick
def test_fixed_images_are_digits_of_the_models_kind():
    """Binary images of MNIST's size keep what the small digits are: a third of the ink inside."""
    small, _ = pretrained.fixed_images(
        models.PixelCNN((8, 8, 1), gen_jax.likelihoods.Categorical(17))
    )
    digits = gen_jax.data.load("digits").test.images[:64]
    np.testing.assert_array_equal(small, digits)
    large, labels = pretrained.fixed_images(
        models.PixelCNN((28, 28, 1), gen_jax.likelihoods.Bernoulli(), num_classes=10)
    )
    assert large.shape == (64, 28, 28, 1)
    assert labels is not None
    assert set(np.unique(large)) == {0, 1}
    assert not large[:, :4].any()
    assert not large[:, 24:].any()
    # Each large digit is nearest to its own small one, at the middles of whose pixels it stands.
    places = 4 + (np.arange(8) * 20 + 10) // 8
    thumbs = large[:, places][:, :, places].reshape(64, -1).astype(float)
    flat = (digits.reshape(64, -1) > 8).astype(float)
    nearest = ((thumbs[:, None] - flat) ** 2).sum(-1).argmin(axis=1)
    assert (nearest == np.arange(64)).mean() > 0.9
