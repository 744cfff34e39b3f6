"""What every autoregressive model says of images and labels that it cannot take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import objectives
from tests.cases import every_model, make, one_line_error, perturbed, some_images


def apply(model, images, labels=None):
    return model.apply(perturbed(model), images, labels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda h, w: np.zeros((2, h + 1, w, 1), np.int32), r"shape \(2, {h1}, {w}, 1\); {want}"),
        (lambda h, w: np.zeros((2, h, w, 3), np.int32), r"shape \(2, {h}, {w}, 3\); {want}"),
        (lambda h, w: np.zeros((h, w, 1), np.int32), r"shape \({h}, {w}, 1\); {want}"),
        (lambda h, w: np.zeros((2, h, w), np.int32), r"shape \(2, {h}, {w}\); {want}"),
        (
            lambda h, w: np.zeros((2, h, w, 1), np.float32),
            "dtype float32; accepted: integers 0 … 4",
        ),
        (lambda h, w: np.zeros((2, h, w, 1), bool), "dtype bool; accepted: integers 0 … 4"),
        (lambda h, w: np.full((2, h, w, 1), 5, np.uint8), "from 5 to 5; accepted: 0 … 4"),
        (lambda h, w: np.full((2, h, w, 1), -1, np.int32), "from -1 to -1; accepted: 0 … 4"),
    ],
)
@every_model
def test_wrong_images(name, images, message):
    model = make(name, "mixture")
    h, w, _ = model.image_shape
    wrong, want = images(h, w), rf".* \[B, {h}, {w}, 1\]"
    message = "images (has|goes) " + message.format(h=h, h1=h + 1, w=w, want=want)
    with one_line_error(message):
        apply(model, jnp.asarray(wrong))
    with one_line_error(message):
        objectives.log_likelihood(model, perturbed(model), wrong)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels is None; accepted, by a model with 2 classes: one an image"),
        (np.zeros(3, np.int32), r"labels has shape \(3,\); accepted: \(2,\), one an image"),
        (np.zeros((2, 1), np.int32), r"labels has shape \(2, 1\); accepted: \(2,\), one an image"),
        (np.zeros(2, np.float32), r"labels has dtype float32; accepted: integers 0 … 1"),
        (np.array([0, 2], np.int32), "labels goes from 0 to 2; accepted: 0 … 1"),
        (np.array([-1, 0], np.int32), "labels goes from -1 to 0; accepted: 0 … 1"),
    ],
)
@every_model
def test_wrong_labels(name, labels, message):
    model = make(name, "categorical")
    with one_line_error(message):
        apply(model, some_images(model, 2), labels)


@every_model
def test_labels_for_a_model_without_classes(name):
    model = make(name, "bernoulli")
    with one_line_error(r"labels is .*; accepted, by a model without classes: None"):
        apply(model, some_images(model, 2), jnp.zeros(2, jnp.int32))


@every_model
def test_inside_a_jit_what_does_not_exist_gives_nan(name):
    """A level or a label out of range, whose values no check can see: that image, no other."""
    model = make(name, "categorical", (2, 3), num_layers=1)
    variables = perturbed(model)
    images, labels = np.ones((6, *model.image_shape), np.int32), np.zeros(6, np.int32)
    images[1:3, -1, -1, 0] = -1, 3  # the last site, which no parameters depend on
    labels[3:5] = -1, 2
    wrong = np.array([False, True, True, True, True, False])

    @jax.jit
    def score(variables, images, labels):
        def total(variables):
            nats = objectives.log_likelihood(model, variables, images, labels)
            return jnp.sum(nats), nats

        gradient, nats = jax.grad(total, has_aux=True)(variables)
        carry = model.apply(variables, 6, labels, method="init_carry")
        return model.apply(variables, images, labels), nats, gradient, carry

    params, nats, gradient, carry = score(variables, images, labels)
    np.testing.assert_array_equal(np.isnan(nats), wrong)
    assert np.isnan(params)[wrong].all()
    assert not np.isnan(params)[~wrong].any()
    assert any(np.isnan(leaf).any() for leaf in jax.tree.leaves(gradient))
    assert any(np.isnan(leaf).any() for leaf in jax.tree.leaves(carry))
    clean = score(variables, np.abs(images) % 3, np.abs(labels) % 2)
    np.testing.assert_array_equal(clean[0][~wrong], params[~wrong])
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(clean))
