"""Auto-encoders without a posterior: an image is one code, and a code is one image.

`AutoEncoder` learns both ways by back-propagation:   max log p(x | decode(encode(x)))

`ImplicitAutoEncoder` has a decoder only; the code of an image is found by inverting it,

    z(x) = argmax_z log p(x | z) + log p(z),   p(z) = N(0, I)

for the images of the training set by learning their codes beside the decoder (as in Bojanowski et
al. 2018, "Optimizing the Latent Space of Generative Networks", with a Gaussian prior in place of
the projection onto a ball), for any other with `gen_jax.inversion.encode_by_inversion`.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from gen_jax import checks
from gen_jax.layers.convolution import param_dtype
from gen_jax.models.shared.codes import StandardNormal
from gen_jax.models.shared.latent import LatentModel
from gen_jax.typing import Array, Float, Integer, Labels, Levels, SiteParams


class AutoEncoder(LatentModel):
    """The deterministic auto-encoder: a bottleneck of `num_latents`, and no prior to draw from."""

    def setup(self) -> None:
        super().setup()
        self.encoder = self.make_encoder(self.num_latents)
        self.decoder = self.make_decoder()

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        """Parameters of the reconstruction's sites, `[B, H, W, S, P]`."""
        return self.decode_images(self.encode(images, labels), labels, images)

    def encode(self, images: Levels, labels: Labels | None = None) -> Float[Array, "B Z"]:
        """The codes of images."""
        return self.encode_images(images, labels)


class ImplicitAutoEncoder(LatentModel):
    """A decoder, and beside it the codes of the images that it is trained on.

    After Bojanowski et al. 2018, "Optimizing the Latent Space of Generative Networks", with a
    Gaussian prior. `gen_jax.inversion` finds the codes of other images.
    """

    num_codes: int = 1
    """Number of images of the training set, each with a learned code."""

    @property
    def prior(self) -> StandardNormal:
        return StandardNormal(self.num_latents, self.real_dtype)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("num_codes", self.num_codes, 1)

    def adapted(self, image_shape: tuple[int, int, int], num_images: int) -> "ImplicitAutoEncoder":
        return self.clone(image_shape=image_shape, num_codes=num_images)

    def setup(self) -> None:
        super().setup()
        self.decoder = self.make_decoder()
        self.table = self.param(
            "codes",
            nn.initializers.normal(0.1),
            (self.num_codes, self.num_latents),
            param_dtype(self.dtype),
        )

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        """Parameters of the sites given the code 0; it exists for `init`, which looks at images."""
        images, labels = self.check(images, labels)
        codes = jnp.zeros((images.shape[0], self.num_latents), self.real_dtype)
        return self.decode_images(codes, labels, images)

    def codes(self, indices: Integer[Array | np.ndarray, " B"]) -> Float[Array, "B Z"]:
        """The codes of training images, by their number in the training set; NaN outside of it."""
        indices = jnp.asarray(indices)
        codes = jnp.take(self.table, indices, axis=0, mode="clip")
        valid = checks.in_range(indices, self.num_codes)
        return checks.nan_unless(None if valid is None else valid[:, None], codes)
