"""What the auto-encoders share: an encoder, a decoder, and a prior over codes."""

from typing import Literal, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from gen_jax import checks
from gen_jax.layers.coders import ACTIVATIONS, DECODERS, ENCODERS, Activation
from gen_jax.models.shared.codes import Posterior, Prior
from gen_jax.models.shared.image_model import ImageModel
from gen_jax.typing import Array, Float, Key, Labels, Levels, SiteParams

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

    @property
    def prior(self) -> Prior | None:
        """p(z | y), an object: see `Prior`. None: codes have no distribution.

        A prior with parameters of its own, such as an autoregressive one over a code's bits, is a
        Flax module that a model gives here; its parameters stand beside those of the decoder. A
        `setup` of one's own then calls `super().setup()`.
        """
        return None

    def setup(self) -> None:
        self.code_prior = self.prior

    # The prior of a bound model: the methods by which `apply` comes to its parameters.

    def prior_sample(self, keys: Key, labels: Labels | None = None) -> Float[Array, "B Z"]:
        """Codes drawn from p(z | y), one for each key."""
        return self._code_prior().sample(keys, labels)

    def prior_log_prob(
        self, codes: Float[Array, "*samples B Z"], labels: Labels | None = None
    ) -> Float[Array, "*samples B Z"]:
        """log p(z_j | y) in nats, for each latent."""
        return self._code_prior().log_prob(codes, labels)

    def kl(self, posterior: Posterior, labels: Labels | None = None) -> Float[Array, "B Z"] | None:
        """KL(q(z_j | x) ‖ p(z_j | y)) in nats in closed form; None where there is none."""
        return self._code_prior().kl(posterior, labels)

    def _code_prior(self) -> Prior:
        # A `setup` of one's own need not call this class's, unless the prior has parameters.
        prior = getattr(self, "code_prior", None) or self.prior
        if prior is None:
            raise ValueError(f"prior is None; accepted: a {type(self).__name__} with one")
        return prior

    def decode(self, codes: Float[Array, "B Z"], labels: Labels | None = None) -> SiteParams:
        """Parameters of every site given the codes, `[B, H, W, S, P]`: p(x | z, y)."""
        codes = jnp.asarray(check_codes(self, codes))
        labels = checks.labels(labels, self.num_classes, codes.shape[0])
        return self.decode_images(codes, labels)

    # What the models build in `setup`, and call.

    def make_encoder(self, outputs: int) -> nn.Module:
        return ENCODERS[self.network](
            hidden=self.hidden,
            outputs=outputs,
            activation=self.activation,
            num_classes=self.num_classes,
            dtype=self.dtype,
        )

    def make_decoder(self) -> nn.Module:
        return DECODERS[self.network](
            image_shape=tuple(self.image_shape),
            likelihood=self.likelihood,
            hidden=self.hidden,
            activation=self.activation,
            num_classes=self.num_classes,
            dtype=self.dtype,
        )

    def encode_images(self, images: Levels, labels: Labels | None) -> Float[Array, "B O"]:
        """The encoder's output, at least in float32; NaN as that of `site_params`."""
        images, labels = self.check(images, labels)
        outputs = self.encoder(self.scale(jnp.asarray(images)), labels)
        return self.nan_out_of_range(outputs.astype(self.real_dtype), images, labels)

    def decode_images(
        self, codes: Float[Array, "B Z"], labels: Labels | None, images: Levels | None = None
    ) -> SiteParams:
        """`decode`; at initialisation the bias looks at `images`, and the prior gets parameters."""
        if self.is_initializing() and getattr(self, "code_prior", None) is not None:
            self.prior_log_prob(codes, labels)
        seen = images if self.is_initializing() else None
        features = self.decoder(codes.astype(self.dtype), labels, seen)
        return self.site_params(features, images, labels)


def check_codes(model: LatentModel, codes: object) -> Array | np.ndarray:
    """Codes as an array. ValueError unless they are real numbers `[B, Z]`."""
    codes = checks.array("codes", codes)
    if codes.ndim != 2 or codes.shape[1] != model.num_latents:
        raise ValueError(f"codes has shape {codes.shape}; accepted: [B, {model.num_latents}]")
    if not jnp.issubdtype(codes.dtype, jnp.floating):
        raise ValueError(f"codes has dtype {codes.dtype}; accepted: real numbers")
    return codes
