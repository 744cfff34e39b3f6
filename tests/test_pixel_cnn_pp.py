"""PixelCNN++: the published network, its initialisation, and what its next-site view computes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from gen_jax import likelihoods, models, sampling
from gen_jax.layers.weight_norm import NormedConv, TransposedConv
from gen_jax.models.shared.parameters import abstract_variables
from gen_jax.training.state import init_params

from .cases import make, normal, one_line_error, perturbed, some_images, some_labels

RESNETS = 2


# A transcription of openai/pixel-cnn, in the order of its code, without weight norm's first step.


def convolve(x, kernel, stride=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def kernel_and_bias(p):
    norm = jnp.sqrt(jnp.sum(p["kernel"] ** 2, axis=(0, 1, 2)))[None, None, None]
    return p["kernel"] / norm * p["scale"][None, None, None], p["bias"][None, None, None]


def down_shifted_conv(p, x, stride=1):
    kernel, bias = kernel_and_bias(p)
    rows, columns = kernel.shape[:2]
    sides = ((columns - 1) // 2, (columns - 1) // 2)
    return convolve(jnp.pad(x, ((0, 0), (rows - 1, 0), sides, (0, 0))), kernel, stride) + bias


def down_right_shifted_conv(p, x, stride=1):
    kernel, bias = kernel_and_bias(p)
    rows, columns = kernel.shape[:2]
    padding = ((0, 0), (rows - 1, 0), (columns - 1, 0), (0, 0))
    return convolve(jnp.pad(x, padding), kernel, stride) + bias


def uncropped_deconv(p, x):
    """TensorFlow's conv2d_transpose: the gradient of a convolution."""
    kernel, bias = kernel_and_bias(p)
    order = [2, 0, 1] if kernel.shape[1] == 3 else [0, 1]  # how ours are laid out
    kernel = kernel[:, np.array(order)]
    rows, columns = kernel.shape[:2]
    batch, height, width, _ = x.shape
    shape = (batch, 2 * height + rows - 1, 2 * width + columns - 1, kernel.shape[-1])
    backward = jax.linear_transpose(
        lambda y: convolve(y, jnp.swapaxes(kernel, 2, 3), 2), jnp.zeros(shape, x.dtype)
    )
    return backward(x)[0] + bias


def down_shifted_deconv(p, x):
    return uncropped_deconv(p, x)[:, :-1, 1:-1]


def down_right_shifted_deconv(p, x):
    return uncropped_deconv(p, x)[:, :-1, :-1]


def down_shift(x):
    return jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], axis=1)


def right_shift(x):
    return jnp.concatenate([jnp.zeros_like(x[:, :, :1]), x[:, :, :-1]], axis=2)


def concat_elu(x):
    return nn.elu(jnp.concatenate([x, -x], axis=-1))


def gated_resnet(p, x, conv, labels, beside=()):
    y = conv(p["first"], concat_elu(x))
    if beside:  # ours have elu(x), elu(-x) of one after those of the other
        y = y + down_shifted_conv(
            p["nin"], jnp.concatenate([concat_elu(other) for other in beside], axis=-1)
        )
    y = conv(p["second"], concat_elu(y))
    y = y + p["classes"]["embedding"][labels][:, None, None]
    a, b = jnp.split(y, 2, axis=-1)
    return x + a * nn.sigmoid(b)


def published(params, x, labels):
    x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
    us = [down_shift(down_shifted_conv(params["above"], x))]
    uls = [
        down_shift(down_shifted_conv(params["above_left"], x))
        + right_shift(down_right_shifted_conv(params["left"], x))
    ]
    levels = [params["level"]]
    levels.append(levels[0]["half"]["level"])
    levels.append(levels[1]["half"]["level"])

    def pair(p, u, ul, u_beside=(), ul_beside=()):
        u = gated_resnet(p["down"], u, down_shifted_conv, labels, u_beside)
        beside = (u, *ul_beside)
        return u, gated_resnet(p["right"], ul, down_right_shifted_conv, labels, beside)

    for n, level in enumerate(levels):
        for i in range(RESNETS):
            u, ul = pair(level[f"before_{i}"], us[-1], uls[-1])
            us, uls = [*us, u], [*uls, ul]
        if n < 2:
            us.append(down_shifted_conv(level["half"]["shrink_down"], us[-1], 2))
            uls.append(down_right_shifted_conv(level["half"]["shrink_right"], uls[-1], 2))
    u, ul = us.pop(), uls.pop()
    for n, level in reversed(list(enumerate(levels))):
        for i in range(RESNETS + (n < 2)):
            u, ul = pair(level[f"after_{i}"], u, ul, (us.pop(),), (uls.pop(),))
        if n:
            u = down_shifted_deconv(levels[n - 1]["half"]["grow_down"], u)
            ul = down_right_shifted_deconv(levels[n - 1]["half"]["grow_right"], ul)
    assert not us
    return down_shifted_conv(params["head"], nn.elu(ul))


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
        # What a transposed one crops counts too: the test below.
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


@pytest.mark.parametrize("right", [0, 1])
def test_a_transposed_convolution_counts_what_it_crops(x64, right):
    layer = TransposedConv(
        in_features=3, features=5, kernel_height=2, left=1, right=right, dtype="float64"
    )
    x = normal(4, 3, 5, 3)
    out, variables = layer.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(out, layer.apply(variables, x), rtol=1e-10)
    uncropped = uncropped_deconv(variables["params"], x)
    np.testing.assert_allclose(np.mean(uncropped, axis=(0, 1, 2)), 0, atol=1e-10)
    np.testing.assert_allclose(np.std(uncropped, axis=(0, 1, 2)), 1, rtol=1e-6)


def test_a_constant_output_is_not_blown_up():
    layer = NormedConv(in_features=3, features=5)
    variables = layer.init(jax.random.key(0), jnp.ones((4, 3, 3, 3)))
    np.testing.assert_array_equal(variables["params"]["scale"], 1)
    np.testing.assert_allclose(layer.apply(variables, jnp.ones((4, 3, 3, 3))), 0, atol=1e-6)


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
