"""The protocol that every autoregressive model keeps: one set of parameters, several views.

    p(x) = prod_i p(x_i | x_<i),   i over the sites in generation order

Whole image: `model.apply(variables, images, labels)` gives the parameters of every site at once.
Next site: `init_carry`, `begin_block` and `step` give those of one more site, from a carry; one
nested scan over blocks and steps (`gen_jax.sampling`) then serves every model. Where a model has
it, `block` gives those of a whole block, given its levels. The model knows nothing of noise, the
sampler nothing of models.
"""

import abc
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from gen_jax import checks
from gen_jax.models.shared.image_model import ImageModel
from gen_jax.typing import (
    Array,
    Carry,
    Context,
    Draw,
    Float,
    Integer,
    Labels,
    Levels,
    SiteParams,
)


class AutoregressiveModel(ImageModel):
    """Base of the autoregressive models: p(x | y) = prod_i p(x_i | x_<i, y), i over the sites.

    Beside the methods here a model may have a third view of the same parameters, a block at once:
    `block(carry, context, levels [T, S, B, V])`, from the carry and context of `begin_block`, is
    `step` for all steps of a block. It gives the carry after the block and the parameters
    `[T, S, B, P]` of all its sites, each a function of earlier sites only.

    Where what is computed differs from block to block, a model says how many kinds take turns,
    `phases`: block b is of kind b mod `phases`, of which `blocks()` must have equally many, and
    `begin_block(carry, block, previous, phase)` is told which, a Python int. A `step` knows it by
    the form of its context.

    A model whose blocks or steps had better be others on an accelerator says so by
    `for_accelerator()`, which gives a module with the same parameters; `scan` draws from that one
    there.
    """

    features: int = 64
    """Width of the hidden layers, rounded up to a multiple of the sites of a pixel."""
    dropout: float = 0.0
    """Dropout rate in [0, 1). It acts in training; in Python where `apply` has a `dropout` rng."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("features", self.features, 1)
        checks.real("dropout", self.dropout, 0, 1)

    # The whole-image view.

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        """Parameters of every site, `[B, H, W, S, P]`, each a function of earlier sites only."""
        raise NotImplementedError

    # The next-site view.

    def blocks(self) -> np.ndarray:
        """Site ids in generation order, int `[blocks, steps, sites]`; −1 pads.

        The id of site s at pixel (h, w) is (h · W + w) · S + s. Here a block is an image row.
        """
        height, width, _ = self.image_shape
        return np.arange(height * width * self.sites).reshape(height, width, self.sites)

    @abc.abstractmethod
    def init_carry(self, batch: int, labels: Labels | None = None) -> Carry:
        """The carry before the first block: zeros in real units, class projections."""
        raise NotImplementedError

    @abc.abstractmethod
    def begin_block(
        self, carry: Carry, block: Integer[Array, ""], previous: Integer[Array, "T S B V"]
    ) -> tuple[Carry, Context]:
        """Everything in a block that does not depend on its own draws.

        `previous` holds the levels of the block just finished, `[steps, sites, B, V]` (of no
        meaning for block 0). Every leaf of the context leads with `[steps]`.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def step(self, carry: Carry, context: Context, draw: Draw) -> Carry:
        """One step's sites: calls `draw(i, params [B, P]) -> levels [B, V]` once for each."""
        raise NotImplementedError

    # What the models share.

    @property
    def rounded_features(self) -> int:
        """`features`, rounded up to a multiple of the channel groups."""
        return self.round_up(self.features)

    def round_up(self, features: int) -> int:
        """`features`, rounded up to a multiple of the channel groups."""
        return -(-features // self.sites) * self.sites

    def scaled(self, draw: Draw) -> Callable[[int, Float[Array, "B P"]], Float[Array, "B V"]]:
        """`draw`, from the network's own output to levels as the network reads them."""
        return lambda s, params: self.scale(draw(s, self.site_vector(params)))

    def row_params(self, features: Float[Array, "W B SP"]) -> Float[Array, "W S B P"]:
        """The head's output for a row as the parameters of its sites."""
        width, batch, _ = features.shape
        params = features.reshape(width, batch, self.sites, self.params_per_site)
        return self.site_vector(jnp.swapaxes(params, 1, 2))

    def scale_row(self, previous: Integer[Array, "W S B V"]) -> Float[Array, "W B C"]:
        """A finished row of the image in real numbers."""
        width, _, batch, _ = previous.shape
        return jnp.swapaxes(self.scale(previous), 1, 2).reshape(width, batch, -1)
