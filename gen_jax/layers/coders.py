"""Encoders and decoders of images: multi-layer perceptrons and convolutions of stride 2.

Classes enter the first hidden layer of each, as one more bias a class: the same as a one-hot label
beside the input. A decoder's output bias is data-dependent: given images at initialisation (Flax's
`init`), it starts at what fits them pixel by pixel (`Likelihood.marginal`; Burda et al. 2016).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax import checks
from gen_jax.layers.class_embedding import ClassEmbedding
from gen_jax.layers.convolution import param_dtype
from gen_jax.likelihoods import Likelihood
from gen_jax.typing import Array, Dtype, DTypeLike, Float, Key, Labels, Levels

Activation: TypeAlias = Literal["tanh", "relu", "gelu", "silu"]
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


class DenseEncoder(nn.Module, kw_only=True):
    """Images in real numbers -> `outputs` numbers, through hidden layers of so many units."""

    hidden: tuple[int, ...]
    outputs: int
    activation: Activation
    num_classes: int | None
    dtype: Dtype

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W C"], labels: Labels | None
    ) -> Float[Array, "B O"]:
        layers = [_dense(units, self.dtype, f"layers_{i}") for i, units in enumerate(self.hidden)]
        # In 0 … 1, as Burda et al. 2016: at -1 the weights of a black background are so many
        # biases, and an update moves all of them at once.
        x = (jax.lax.collapse(images, 1) + 1) / 2
        x = _through(self, x, labels, layers)
        return _dense(self.outputs, self.dtype, "output")(x)


class DenseDecoder(nn.Module, kw_only=True):
    """Codes -> the parameters of every site, through the hidden layers from last to first."""

    image_shape: tuple[int, int, int]
    likelihood: Likelihood
    hidden: tuple[int, ...]
    activation: Activation
    num_classes: int | None
    dtype: Dtype

    @nn.compact
    def __call__(
        self, codes: Float[Array, "B Z"], labels: Labels | None, images: Levels | None = None
    ) -> Float[Array, "B H W SP"]:
        height, width, channels = self.image_shape
        sites, params = self.likelihood.sites(channels), self.likelihood.num_params(channels)
        hidden = enumerate(reversed(self.hidden))
        layers = [_dense(units, self.dtype, f"layers_{i}") for i, units in hidden]
        x = _through(self, codes, labels, layers)
        x = _dense(height * width * sites * params, self.dtype, "output", use_bias=False)(x)
        x = x.reshape(-1, height, width, sites * params)
        return x + _output_bias(self, images, x.shape[1:], x.dtype)


class ConvEncoder(nn.Module, kw_only=True):
    """Images in real numbers -> `outputs` numbers: convolutions of stride 2, then a hidden layer.

    `hidden`: the maps of each convolution, and last the units of the hidden layer.
    """

    hidden: tuple[int, ...]
    outputs: int
    activation: Activation
    num_classes: int | None
    dtype: Dtype

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W C"], labels: Labels | None
    ) -> Float[Array, "B O"]:
        *maps, units = self.hidden
        convs = [_conv(features, 2, self.dtype, f"layers_{i}") for i, features in enumerate(maps)]
        hidden = _dense(units, self.dtype, "hidden")
        flat = [lambda x: hidden(jax.lax.collapse(x, 1))]
        x = _through(self, images, labels, [*convs, *flat])
        return _dense(self.outputs, self.dtype, "output")(x)


class ConvDecoder(nn.Module, kw_only=True):
    """Codes -> the parameters of every site: the mirror of `ConvEncoder`.

    Each stage is a transposed convolution of stride 2, cropped to the size that the encoder had
    there, so any image size works.
    """

    image_shape: tuple[int, int, int]
    likelihood: Likelihood
    hidden: tuple[int, ...]
    activation: Activation
    num_classes: int | None
    dtype: Dtype

    @nn.compact
    def __call__(
        self, codes: Float[Array, "B Z"], labels: Labels | None, images: Levels | None = None
    ) -> Float[Array, "B H W SP"]:
        activation = ACTIVATIONS[self.activation]
        height, width, channels = self.image_shape
        outputs = self.likelihood.sites(channels) * self.likelihood.num_params(channels)
        *maps, hidden = self.hidden
        sizes = [(height, width)]
        for _ in maps:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        top, left = sizes[-1]
        layers = [
            _dense(hidden, self.dtype, "hidden"),
            _dense(top * left * maps[-1], self.dtype, "input"),
        ]
        x = _through(self, codes, labels, layers).reshape(-1, top, left, maps[-1])
        for i, features in enumerate([*reversed(maps[:-1]), outputs]):
            last = i == len(maps) - 1
            high, wide = sizes[len(maps) - 1 - i]
            x = _upsampling_conv(features, self.dtype, f"layers_{i}", use_bias=not last)(x)
            x = x[:, :high, :wide]
            x = x if last else activation(x)
        if images is not None:  # one bias for all pixels
            images = images.reshape(-1, 1, 1, channels)
        return x + _output_bias(self, images, (1, 1, outputs), x.dtype)


ENCODERS = {"dense": DenseEncoder, "conv": ConvEncoder}
DECODERS = {"dense": DenseDecoder, "conv": ConvDecoder}
Coder: TypeAlias = DenseEncoder | DenseDecoder | ConvEncoder | ConvDecoder


def _through(
    module: Coder, x: Array, labels: Labels | None, layers: Sequence[Callable[[Array], Array]]
) -> Array:
    """Layers and activations in turn; the bias of the image's class after the first layer."""
    for i, layer in enumerate(layers):
        x = layer(x)
        if i == 0:
            x = x + _class_bias(module, labels, x)
        x = ACTIVATIONS[module.activation](x)
    return x


def _dense(features: int, dtype: Dtype, name: str, use_bias: bool = True) -> nn.Dense:
    return nn.Dense(
        features,
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=param_dtype(dtype),
        kernel_init=nn.initializers.glorot_uniform(),
        name=name,
    )


def _conv(features: int, stride: int, dtype: Dtype, name: str) -> nn.Conv:
    return nn.Conv(
        features,
        (3, 3),
        (stride, stride),
        dtype=dtype,
        param_dtype=param_dtype(dtype),
        kernel_init=nn.initializers.glorot_uniform(),
        name=name,
    )


def _upsampling_conv(features: int, dtype: Dtype, name: str, use_bias: bool) -> nn.ConvTranspose:
    return nn.ConvTranspose(
        features,
        (4, 4),
        (2, 2),
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=param_dtype(dtype),
        kernel_init=nn.initializers.glorot_uniform(),
        name=name,
    )


def _class_bias(module: Coder, labels: Labels | None, x: Array) -> Array:
    """The bias of each image's class, broadcast to `x`; 0 without classes."""
    if module.num_classes is None or labels is None:
        return jnp.zeros((), x.dtype)
    features = x.shape[-1]
    table = ClassEmbedding(
        num_classes=module.num_classes,
        features=features,
        dtype=module.dtype,
        name="class_bias",
        parent=module,
    )
    bias = table(jnp.asarray(labels))
    return bias.reshape(bias.shape[0], *(1,) * (x.ndim - 2), features)


def _output_bias(
    module: DenseDecoder | ConvDecoder,
    images: Levels | None,
    shape: tuple[int, ...],
    dtype: DTypeLike,
) -> Float[Array, "1 H W SP"]:
    """One vector, as biases are (weight decay spares those), that begins at `images`."""
    kind = param_dtype(module.dtype)

    def init(key: Key) -> Array:
        del key
        if images is None:
            return jnp.zeros(math.prod(shape), kind)
        values = module.likelihood.marginal(jnp.asarray(images), kind).reshape(-1)
        valid = checks.in_range(jnp.asarray(images), module.likelihood.levels)
        return checks.nan_unless(None if valid is None else jnp.all(valid)[None], values)

    bias = module.param("bias", init)
    return bias.astype(dtype).reshape(1, *shape)
