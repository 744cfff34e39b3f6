"""PixelCNN++: the published network, its initialisation, and what its next-site view computes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from gen_jax import likelihoods, models, sampling
from gen_jax.layers.weight_norm import NormedConv
from gen_jax.models.shared.parameters import abstract_variables
from gen_jax.training.state import init_params
from tests.cases import make, one_line_error, perturbed, some_images, some_labels
from tests.models.openai_pixel_cnn import RESNETS, published


def test_it_is_the_published_network(x64):
    model = make("PixelCNNPlusPlus", "mixture-rgb", (8, 12), num_resnets=RESNETS, dtype="float64")
    variables, images, labels = perturbed(model), some_images(model, 2), some_labels(model, 2)
    found = jax.jit(model.apply)(variables, images, labels)
    expected = jax.jit(published)(variables["params"], model.scale(images), labels)
    np.testing.assert_allclose(found[..., 0, :], expected, rtol=1e-10, atol=1e-12)


def test_the_parameters_of_the_paper():
    """53.6 million: 5 resnets of 160 filters, 10 logistics."""
    shapes = abstract_variables(models.PixelCNNPlusPlus((32, 32, 3)))
    assert 53.6e6 < sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) < 53.7e6


# Initialisation.


def test_outputs_start_from_the_data():
    """As training begins, with dropout: mean 0 and deviation 1, or 0.1 before a gate, everywhere.

    Of more than a hundred images some are looked at, here every second one.
    """
    model = make("PixelCNNPlusPlus", "categorical-rgb", (8, 8), features=6, dropout=0.5)
    images, key = some_images(model, 150), jax.random.key(0)
    params = jax.jit(init_params, static_argnums=0)(model, key, images)
    seen, images, rngs = [], images[::2], {"dropout": jax.random.fold_in(key, 0)}

    def intercept(call, args, kwargs, context):
        out = call(*args, **kwargs)
        # What a transposed one crops counts too: tests/layers/test_weight_norm.py.
        if isinstance(context.module, NormedConv) and context.method_name == "__call__":
            seen.append((context.module.deviation, out))
        return out

    def outputs(params):
        seen.clear()
        with nn.intercept_methods(intercept):
            model.apply({"params": params}, images, rngs=rngs)
        return [out for _, out in seen]

    found = jax.jit(outputs)(params)
    assert {deviation for deviation, _ in seen} == {1.0, 0.1}
    for (deviation, _), out in zip(seen, found, strict=True):
        mean, std = np.mean(out, axis=(0, 1, 2)), np.std(out, axis=(0, 1, 2))
        np.testing.assert_allclose(mean, 0, atol=1e-3 * deviation)
        np.testing.assert_allclose(std, deviation, rtol=1e-3)


# The next-site view.


def multiplications(jaxpr):
    """Of matrix products and convolutions, with what a scan repeats."""
    total = 0
    for equation in jaxpr.eqns:
        shapes = [x.aval.shape for x in equation.invars if hasattr(x.aval, "shape")]
        out = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            total += out * math.prod(shapes[0][axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            total += out * math.prod(shapes[1][:3])
        inner = [x for p in equation.params.values() for x in (p if isinstance(p, tuple) else [p])]
        for part in inner:
            if hasattr(part, "jaxpr"):
                total += equation.params.get("length", 1) * multiplications(part.jaxpr)
    return total


def test_a_sample_costs_one_pass():
    """Nothing is computed twice: the multiplications of all steps are those of one pass."""
    model = make("PixelCNNPlusPlus", "bernoulli", (32, 32), features=8)
    variables, images = abstract_variables(model), jax.ShapeDtypeStruct((2, 32, 32, 1), jnp.int32)
    one_pass = jax.make_jaxpr(model.apply)(variables, images)
    draw = jax.make_jaxpr(lambda v: sampling.sample(model, v, jax.random.key(0), 2))(variables)
    ratio = multiplications(draw.jaxpr) / multiplications(one_pass.jaxpr)
    assert 0.9 < ratio < 1.1


# Bad input.


@pytest.mark.parametrize("shape", [(6, 8, 3), (8, 2, 3)])
def test_sizes_divide_by_four(shape):
    with one_line_error(r"image_shape is \(.*; accepted by PixelCNNPlusPlus: .* multiples of 4"):
        models.PixelCNNPlusPlus(shape)


def test_channels_one_by_one_are_refused():
    with one_line_error("likelihood is Categorical.*; accepted by PixelCNNPlusPlus: one site"):
        models.PixelCNNPlusPlus((8, 8, 3), likelihoods.Categorical(256))
