"""What is drawn is as frequent as the model says, in sampling and in completing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gen_jax import objectives, sampling
from tests.cases import (
    MODELS,
    SMALLEST,
    TINY,
    chain_rule,
    every_image,
    generation_order,
    make,
    perturbed,
)

COUNT = 8192
KEY = jax.random.key(7)

log_likelihood = jax.jit(objectives.log_likelihood, static_argnums=0)


def probabilities(model, variables, labels):
    """p(x) of `every_image`, float64, and the weights that turn an image into its index."""
    images = every_image(model)
    labels = None if labels is None else jnp.full(len(images), labels[0], jnp.int32)
    nats = np.asarray(log_likelihood(model, variables, jnp.asarray(images), labels), np.float64)
    size = int(np.prod(model.image_shape))
    return np.exp(nats), model.likelihood.levels ** np.arange(size)[::-1]


def assert_frequencies(indices, expected):
    """Chi-square at a level of 1e-4, rare outcomes pooled; impossible ones must not occur."""
    counts = np.bincount(indices, minlength=expected.size)
    assert not counts[expected < 1e-12].any()
    expected = expected * indices.size
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    if expected[-1] < 5:  # too few to be a bin of their own
        observed = np.append(observed[:-2], observed[-2:].sum())
        expected = np.append(expected[:-2], expected[-2:].sum())
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert len(expected) > 3
    assert stats.chi2.sf(statistic, len(expected) - 1) > 1e-4


DRAWN = [(name, *TINY[3]) for name in MODELS if MODELS[name].multiple == 1] + [
    ("GatedPixelCNN", *tiny) for tiny in TINY
]


@pytest.mark.parametrize(
    ("name", "case", "size", "likelihood"),
    list(dict.fromkeys(DRAWN)),
    ids=[f"{name}-{case}" for name, case, *_ in dict.fromkeys(DRAWN)],
)
def test_frequencies_are_the_models_probabilities(name, case, size, likelihood):
    """Over all images of a tiny shape, in sampling and in completing with partly known pixels."""
    model = make(name, case, size, likelihood=likelihood, num_layers=1)
    variables = perturbed(model, seed=1)
    labels = None if model.num_classes is None else np.ones(COUNT, np.int32)
    expected, weights = probabilities(model, variables, labels)
    images = np.asarray(sampling.sample(model, variables, KEY, COUNT, labels=labels))
    assert_frequencies(images.reshape(COUNT, -1).astype(int) @ weights, expected)

    # Every second value of the image is known, so on RGB some channels of each pixel: what is
    # drawn follows the chain rule over values in generation order.
    count, levels = weights.size, likelihood.levels
    known = np.arange(count) % 2 == 1
    truth = np.arange(count) // 2 % levels
    mask = known.reshape(model.image_shape)
    filled = np.broadcast_to(truth.reshape(model.image_shape), images.shape)
    images = sampling.complete(model, variables, KEY, filled, mask, labels=labels)
    images = np.asarray(images)
    joint = expected.reshape((levels,) * count)
    channels = model.image_shape[-1]
    values = channels // likelihood.sites(channels)
    order = (generation_order(model)[:, None] * values + np.arange(values)).reshape(-1)
    conditionals = chain_rule(joint.transpose(order))
    wanted = np.prod(conditionals[~known[order]], axis=0).transpose(np.argsort(order))
    for axis in np.flatnonzero(known):
        wanted = np.where(np.indices(joint.shape)[axis] == truth[axis], wanted, 0)
    np.testing.assert_allclose(wanted.sum(), 1, rtol=1e-5)
    assert_frequencies(images.reshape(COUNT, -1).astype(int) @ weights, wanted.reshape(-1))


def test_frequencies_of_images_with_strides():
    """Of its 65,536 images, by groups that chance has made, and by their last row."""
    model = make("PixelCNNPlusPlus", *SMALLEST[:2], features=2)
    variables = perturbed(model, seed=1)
    expected, weights = probabilities(model, variables, None)
    images = np.asarray(sampling.sample(model, variables, KEY, COUNT))
    indices = images.reshape(COUNT, -1).astype(int) @ weights
    for group in (np.random.default_rng(0).integers(0, 256, expected.size), np.arange(2**16) % 16):
        assert_frequencies(group[indices], np.bincount(group, expected))
