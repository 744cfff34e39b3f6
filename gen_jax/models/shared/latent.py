"""What the auto-encoders share: an encoder, a decoder, and distributions over codes.

A code is a vector of Z latents. `DiagonalGaussian` and `IndependentBernoulli` are posteriors
q(z | x) as an encoder gives them; each knows the prior that goes with it. Their log-probabilities
and divergences stay apart for each latent: `[…, Z]`, in nats.
"""

import math
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from gen_jax import checks
from gen_jax.layers.coders import ACTIVATIONS, DECODERS, ENCODERS, Activation
from gen_jax.models.shared.image_model import ImageModel
from gen_jax.typing import Array, Float, Key, Labels, Leaf, Levels, SiteParams

Network: TypeAlias = Literal["dense", "conv"]


class LatentModel(ImageModel):
    """Base of the auto-encoders: `decode` a code, and `encode` an image where there is a network.

    Given images at initialisation, the output's bias starts at what fits them (`coders`).
    """

    num_latents: int = 32
    """Latents of a code, Z: numbers, or bits, that an image is encoded in."""
    network: Network = "dense"
    """dense: multi-layer perceptrons. conv: convolutions of stride 2, and one hidden layer."""
    hidden: tuple[int, ...] = (200, 200)
    """Widths of the encoder's hidden layers, from the image on; the decoder is its mirror.
    With conv: the maps of each convolution, then the width of the hidden layer."""
    activation: Activation = "tanh"
    """Activation function of the hidden layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("num_latents", self.num_latents, 1)
        checks.choice("network", self.network, Network)
        checks.choice("activation", self.activation, tuple(ACTIVATIONS))
        checks.wholes("hidden", self.hidden, 1)
        if len(self.hidden) < 2 and self.network == "conv":
            raise ValueError(f"hidden is {self.hidden}; accepted: 2 or more, with network='conv'")

    @property
    def needs_examples(self) -> bool:
        return True

    @property
    def has_real_codes(self) -> bool:
        """Whether codes are real numbers, which a decoder can be inverted by."""
        return True

    # The prior p(z | y). A model whose prior has parameters of its own, such as an autoregressive
    # one over a grid of codes, builds it in `setup` and overrides the three methods; nothing else
    # asks for it.

    @property
    def prior(self) -> "type[Posterior] | None":
        """p(z), as the class of q(z | x): see `Posterior`. None: codes have no distribution."""
        return None

    def prior_sample(self, keys: Key, labels: Labels | None = None) -> Float[Array, "B Z"]:
        """Codes drawn from p(z | y), one for each key."""
        shape, dtype = (self.num_latents,), self.real_dtype
        return jax.vmap(lambda key: self._prior().prior_sample(key, shape, dtype))(keys)

    def prior_log_prob(
        self, codes: Float[Array, "*samples B Z"], labels: Labels | None = None
    ) -> Float[Array, "*samples B Z"]:
        """log p(z_j | y) in nats, for each latent; given those before it, if they are coupled."""
        return self._prior().prior_log_prob(codes)

    def _prior(self) -> "type[Posterior]":
        if self.prior is None:
            raise ValueError(f"prior is None; accepted: a {type(self).__name__} with one")
        return self.prior

    def kl(self, posterior: "Posterior", labels: Labels | None = None) -> Float[Array, "B Z"]:
        """KL(q(z_j | x) ‖ p(z_j | y)) in nats in closed form; ValueError where there is none."""
        return posterior.kl()

    def decode(self, codes: Float[Array, "B Z"], labels: Labels | None = None) -> SiteParams:
        """Parameters of every site given the codes, `[B, H, W, S, P]`: p(x | z, y)."""
        codes = jnp.asarray(check_codes(self, codes))
        labels = checks.labels(labels, self.num_classes, codes.shape[0])
        return self.decode_images(codes, labels)

    # What the models build in `setup`, and call.

    def make_encoder(self, outputs: int) -> nn.Module:
        return ENCODERS[self.network](
            self.hidden, outputs, self.activation, self.num_classes, self.dtype
        )

    def make_decoder(self) -> nn.Module:
        return DECODERS[self.network](
            tuple(self.image_shape),
            self.likelihood,
            self.hidden,
            self.activation,
            self.num_classes,
            self.dtype,
        )

    def encode_images(self, images: Levels, labels: Labels | None) -> Float[Array, "B O"]:
        """The encoder's output, at least in float32; NaN as that of `site_params`."""
        images, labels = self.check(images, labels)
        outputs = self.encoder(self.scale(jnp.asarray(images)), labels)
        return self.nan_out_of_range(outputs.astype(self.real_dtype), images, labels)

    def decode_images(
        self, codes: Float[Array, "B Z"], labels: Labels | None, images: Levels | None = None
    ) -> SiteParams:
        """`decode`; at initialisation the bias looks at `images`."""
        seen = images if self.is_initializing() else None
        features = self.decoder(codes.astype(self.dtype), labels, seen)
        return self.site_params(features, images, labels)


@runtime_checkable
class Posterior(Protocol):
    """q(z | x) over codes of Z independent latents, and its prior p(z)."""

    def sample(self, key: Key, num_samples: int) -> Float[Array, "samples *batch Z"]:
        """`num_samples` codes of each posterior."""
        ...

    def log_prob(self, codes: Float[Array, "*shape Z"]) -> Float[Array, "*shape Z"]:
        """log q(z_j | x) in nats, for each latent."""
        ...

    def kl(self) -> Float[Array, "*batch Z"]:
        """KL(q(z_j | x) ‖ p(z_j)) in nats, in closed form, for each latent."""
        ...

    def mode(self) -> Float[Array, "*batch Z"]:
        """The most probable code."""
        ...

    def mean(self) -> Float[Array, "*batch Z"]:
        """The expected code."""
        ...

    @staticmethod
    def prior_log_prob(codes: Float[Array, "*shape Z"]) -> Float[Array, "*shape Z"]:
        """log p(z_j) in nats, for each latent."""
        ...

    @staticmethod
    def prior_sample(key: Key, shape: tuple[int, ...], dtype: str) -> Array:
        """Codes drawn from the prior."""
        ...


@struct.dataclass
class DiagonalGaussian:
    """N(loc, exp(log_scale)²) for each latent; the prior is N(0, 1) (Kingma & Welling 2014)."""

    loc: Leaf
    """Means, `[…, Z]`."""
    log_scale: Leaf
    """Logarithms of the standard deviations, `[…, Z]`."""

    def sample(self, key: Key, num_samples: int) -> Float[Array, "samples *batch Z"]:
        """μ + σ ⊙ ε: differentiable in μ and σ."""
        shape = (num_samples, *self.loc.shape)
        noise = jax.random.normal(key, shape, self.loc.dtype)
        return self.loc[None] + jnp.exp(self.log_scale)[None] * noise

    def log_prob(self, codes: Float[Array, "*shape Z"]) -> Float[Array, "*shape Z"]:
        log_scale = _lead(self.log_scale, codes)
        standard = (codes - _lead(self.loc, codes)) * jnp.exp(-log_scale)
        return -0.5 * jnp.square(standard) - log_scale - 0.5 * math.log(2 * math.pi)

    def kl(self) -> Float[Array, "*batch Z"]:
        """½ (μ² + σ² − 1) − log σ (Kingma & Welling 2014, appendix B)."""
        squares = jnp.square(self.loc) + jnp.exp(2 * self.log_scale)
        return 0.5 * (squares - 1) - self.log_scale

    def mode(self) -> Float[Array, "*batch Z"]:
        return self.loc

    def mean(self) -> Float[Array, "*batch Z"]:
        return self.loc

    @staticmethod
    def prior_log_prob(codes: Float[Array, "*shape Z"]) -> Float[Array, "*shape Z"]:
        return -0.5 * jnp.square(codes) - 0.5 * math.log(2 * math.pi)

    @staticmethod
    def prior_sample(key: Key, shape: tuple[int, ...], dtype: str) -> Array:
        return jax.random.normal(key, shape, dtype)


@struct.dataclass
class IndependentBernoulli:
    """Latents 0 or 1 with these logits of 1; the prior is a fair coin."""

    logits: Leaf
    """Log-odds of 1, `[…, Z]`."""

    def sample(self, key: Key, num_samples: int) -> Float[Array, "samples *batch Z"]:
        """Draws as real numbers 0 and 1; no gradient passes."""
        shape = (num_samples, *self.logits.shape)
        uniform = jax.random.uniform(key, shape, self.logits.dtype)
        return (uniform < jax.nn.sigmoid(self.logits)[None]).astype(self.logits.dtype)

    def log_prob(self, codes: Float[Array, "*shape Z"]) -> Float[Array, "*shape Z"]:
        logits = _lead(self.logits, codes)
        return codes * logits - jax.nn.softplus(logits)

    def kl(self) -> Float[Array, "*batch Z"]:
        """log 2 − entropy."""
        one = jax.nn.sigmoid(self.logits)
        return (
            one * jax.nn.log_sigmoid(self.logits)
            + (1 - one) * jax.nn.log_sigmoid(-self.logits)
            + math.log(2)
        )

    def straight_through(
        self, codes: Float[Array, "samples *batch Z"]
    ) -> Float[Array, "samples *batch Z"]:
        """The codes, with the gradient of the mean (Bengio, Léonard & Courville 2013)."""
        mean = self.mean()[None]
        return codes + (mean - jax.lax.stop_gradient(mean))

    def mode(self) -> Float[Array, "*batch Z"]:
        return (self.logits > 0).astype(self.logits.dtype)

    def mean(self) -> Float[Array, "*batch Z"]:
        return jax.nn.sigmoid(self.logits)

    @staticmethod
    def prior_log_prob(codes: Float[Array, "*shape Z"]) -> Float[Array, "*shape Z"]:
        return jnp.full_like(codes, -math.log(2))

    @staticmethod
    def prior_sample(key: Key, shape: tuple[int, ...], dtype: str) -> Array:
        return jax.random.bernoulli(key, 0.5, shape).astype(dtype)


POSTERIORS = {"gaussian": DiagonalGaussian, "bernoulli": IndependentBernoulli}


def check_codes(model: LatentModel, codes: object) -> Array | np.ndarray:
    """Codes as an array. ValueError unless they are real numbers `[B, Z]`."""
    codes = checks.array("codes", codes)
    if codes.ndim != 2 or codes.shape[1] != model.num_latents:
        raise ValueError(f"codes has shape {codes.shape}; accepted: [B, {model.num_latents}]")
    if not jnp.issubdtype(codes.dtype, jnp.floating):
        raise ValueError(f"codes has dtype {codes.dtype}; accepted: real numbers")
    return codes


def _lead(x: Array, codes: Array) -> Array:
    """`x` with the leading axes of `codes` that it lacks."""
    return x.reshape((1,) * (codes.ndim - x.ndim) + x.shape)
