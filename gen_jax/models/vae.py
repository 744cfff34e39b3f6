"""Variational auto-encoder (Kingma & Welling 2014, "Auto-Encoding Variational Bayes").

    log p(x) ≥ E_q(z|x) [log p(x | z)] − KL(q(z | x) ‖ p(z))

q is Gaussian with a diagonal covariance and p(z) = N(0, I), or, for a discrete code, q and p are
independent Bernoulli draws. The bounds and their gradients are in `gen_jax.objectives`.
"""

from typing import Literal, TypeAlias

import jax.numpy as jnp

from gen_jax import checks
from gen_jax.models.shared.codes import (
    DiagonalGaussian,
    FairCoins,
    IndependentBernoulli,
    Prior,
    StandardNormal,
)
from gen_jax.models.shared.latent import LatentModel
from gen_jax.typing import Labels, Levels, SiteParams

Latents: TypeAlias = Literal["gaussian", "bernoulli"]


class VAE(LatentModel):
    """Variational auto-encoder (Kingma & Welling 2014) of `num_latents` Gaussian latents, or bits.

    `gen_jax.objectives` has its bounds: `elbo` and `iwae_bound`.
    """

    latents: Latents = "gaussian"
    """gaussian: real numbers. bernoulli: bits, through whose draw no gradient passes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("latents", self.latents, Latents)

    @property
    def prior(self) -> Prior:
        prior = StandardNormal if self.latents == "gaussian" else FairCoins
        return prior(self.num_latents, self.real_dtype)

    @property
    def has_real_codes(self) -> bool:
        return self.latents == "gaussian"

    @property
    def estimator(self) -> Literal["reparametrized", "score_function"]:
        """The gradient that its latents have without bias: see `objectives.elbo_terms`."""
        return "reparametrized" if self.latents == "gaussian" else "score_function"

    def setup(self) -> None:
        super().setup()
        numbers = 2 if self.latents == "gaussian" else 1
        self.encoder = self.make_encoder(numbers * self.num_latents)
        self.decoder = self.make_decoder()

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        """Parameters of the sites given the posterior's most probable code."""
        codes = self.encode(images, labels).mode()
        return self.decode_images(codes, labels, images)

    def encode(
        self, images: Levels, labels: Labels | None = None
    ) -> DiagonalGaussian | IndependentBernoulli:
        """q(z | x, y)."""
        outputs = self.encode_images(images, labels)
        if self.latents == "bernoulli":
            return IndependentBernoulli(outputs)
        return DiagonalGaussian(*jnp.split(outputs, 2, axis=-1))
