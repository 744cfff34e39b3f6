"""A transcription of openai/pixel-cnn, in its order, without weight norm's first step."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

RESNETS = 2


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
