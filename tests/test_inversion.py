"""Codes found by inverting a decoder."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import inversion, objectives
from gen_jax.models import StandardNormal
from tests.cases import one_line_error, perturbed, some_images, some_labels
from tests.vaes import LinearGaussian, UnitGaussian, vae


def test_inversion_finds_the_mode_of_the_posterior():
    model = LinearGaussian((2, 2, 1), UnitGaussian(), num_latents=2)
    images = some_images(model, 6)
    found = inversion.encode_by_inversion(model, {}, images, num_steps=400, num_starts=2)
    posterior = model.apply({}, images, method="encode")
    np.testing.assert_allclose(found.codes, posterior.loc, atol=2e-3)
    fit = objectives.reconstruction(model, {}, found.codes, images)
    np.testing.assert_allclose(found.reconstruction, fit, rtol=1e-4)
    np.testing.assert_allclose(
        found.log_joint - found.reconstruction,
        StandardNormal(2).log_prob(found.codes).sum(axis=-1),
        rtol=1e-3,
        atol=1e-3,
    )
    # Without the prior: least squares.
    matrix = np.asarray(model.bind({}).matrix)
    centred = np.asarray(images).reshape(6, 4) - np.asarray(model.bind({}).offset)
    squares = np.linalg.lstsq(matrix, centred.T, rcond=None)[0].T
    free = inversion.encode_by_inversion(model, {}, images, num_steps=400, prior_weight=0.0)
    np.testing.assert_allclose(free.codes, squares, atol=2e-3)


def test_inversion_keeps_the_best_of_all_starts():
    model = vae((4, 4, 1), 2, (8,), num_classes=2)
    variables = jax.tree.map(lambda x: 3 * x, perturbed(model))
    images, labels = some_images(model, 5), some_labels(model, 5)
    starts = jax.random.normal(jax.random.key(0), (6, 5, 2))

    def invert(starts, images=images, labels=labels):
        return inversion.encode_by_inversion(
            model, variables, images, labels, num_steps=30, starts=starts
        )

    alone = np.stack([invert(start[None]).log_joint for start in starts])
    together = invert(starts)
    assert len(np.unique(alone.argmax(axis=0))) > 1, "no start is the best for all"
    np.testing.assert_allclose(together.log_joint, alone.max(axis=0), rtol=1e-5)
    one = invert(starts[:, 2:3], images[2:3], labels[2:3])
    np.testing.assert_allclose(one.codes[0], together.codes[2], atol=1e-4)
    long = inversion.encode_by_inversion(
        model, variables, images, labels, num_steps=1, learning_rate=1e3, starts=starts
    )
    first = objectives.reconstruction(model, variables, starts, images, labels)
    first = first + StandardNormal(2).log_prob(starts).sum(axis=-1)
    assert (np.asarray(long.log_joint) >= np.asarray(first).max(axis=0) - 1e-4).all()


def test_inversion_of_what_cannot_be_inverted():
    model = vae((2, 2, 1), 2, latents="bernoulli")
    images = some_images(model, 2)
    with one_line_error("accepted: one whose codes are real numbers"):
        inversion.encode_by_inversion(model, perturbed(model), images)
    model = vae((2, 2, 1), 2)
    variables = perturbed(model)
    for fields, match in (
        ({"num_starts": 0}, "num_starts is 0"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"prior_weight": -1.0}, "prior_weight is -1.0"),
        ({"starts": jnp.zeros((1, 3, 2))}, "starts has shape"),
        ({"starts": jnp.zeros((0, 2, 2))}, "starts has shape"),
        ({"starts": jnp.zeros((1, 2, 2), jnp.int32)}, "starts has shape .* int32"),
    ):
        with one_line_error(match):
            inversion.encode_by_inversion(model, variables, images, **fields)


def test_inversion_in_chunks_finds_the_same_codes(x64):
    model = vae((2, 2, 1), 2, num_classes=2, dtype="float64")
    variables, images, labels = perturbed(model), some_images(model, 5), some_labels(model, 5)
    options = {"key": jax.random.key(3), "num_starts": 2, "num_steps": 5}
    whole = inversion.encode_by_inversion(model, variables, images, labels, **options)
    for size in (2, 9):
        parts = inversion.encode_by_inversion(
            model, variables, images, labels, chunk_size=size, **options
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), parts, whole)
