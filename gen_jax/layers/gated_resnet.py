"""The gated resnets of PixelCNN++ (Salimans et al. 2017, section 2.4), each with its views.

    y = conv(celu(x)) + 1 × 1(celu(beside)),   a, b = conv(celu(y)) + class,   x + a · σ(b)

`RowsResnet` reads the rows above the one being drawn, of the downward stream; what its row gives
to the next waits in the carry. `PixelsResnet` reads the row above and the pixels to the left, of
the downward and rightward stream, and beside them the downward stream at its own site.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.layers.class_embedding import ClassEmbedding
from gen_jax.layers.weight_norm import NormedConv, moved
from gen_jax.typing import Array, Dtype, Float, Int, Labels


def celu(x: Float[Array, "*batch F"]) -> Float[Array, "*batch F2"]:
    """elu of x and of −x, side by side (Shang et al. 2016 did so with ReLU)."""
    # One program, where elu of each part would be three.
    return jax.nn.elu(jnp.concatenate([x, -x], axis=-1))


def celu_of_image(x: Float[Array, "B H W F"]) -> Float[Array, "B H W F2"]:
    """The same, as a gradient is better taken of: in a third of the time."""
    return jnp.concatenate([jax.nn.elu(x), jax.nn.elu(-x)], axis=-1)


class GatedResnet(nn.Module, kw_only=True):
    """What both kinds share: their parameters and the whole-image view."""

    features: int
    right: int
    """Columns to the right that the convolutions read: 1 in rows above, else 0."""
    beside: int = 0
    """Inputs of `features` each that are read at the same site, through a 1 × 1 convolution."""
    num_classes: int | None = None
    dropout: float = 0.0
    dtype: Dtype = "float32"

    def setup(self) -> None:
        features, dtype = self.features, self.dtype
        conv = functools.partial(
            NormedConv,
            in_features=2 * features,
            kernel_height=2,
            left=1,
            right=self.right,
            dtype=dtype,
        )
        self.first = conv(features=features)
        self.second = conv(features=2 * features, deviation=0.1)
        if self.beside:
            read = 2 * features * self.beside
            self.nin = NormedConv(in_features=read, features=features, dtype=dtype)
        self.drop = nn.Dropout(self.dropout)
        if self.num_classes is not None:
            self.classes = ClassEmbedding(
                num_classes=self.num_classes, features=2 * features, dtype=dtype
            )

    def __call__(
        self,
        x: Float[Array, "B H W F"],
        beside: tuple[Float[Array, "B H W F"], ...],
        labels: Labels | None,
    ) -> Float[Array, "B H W F"]:
        y = self.first(celu_of_image(x))
        if beside:
            y = y + self.nin(jnp.concatenate([celu_of_image(other) for other in beside], axis=-1))
        y = self.drop(celu_of_image(y), deterministic=not self.has_rng("dropout"))
        gates = self.second(y)
        if self.num_classes is not None:
            gates = gates + self.classes(labels)[:, None, None, :]
        return x + _gated(gates)

    def class_gates(self, labels: Labels | None) -> Float[Array, "B F2"] | None:
        """The projection of the class."""
        return None if self.num_classes is None else self.classes(labels)


class RowsResnetCarry(NamedTuple):
    """What the row above gives to a row."""

    through_first: Float[Array, "W B F"]
    """Through the first convolution."""
    through_second: Float[Array, "W B F2"]
    """Through the second."""
    classes: Float[Array, "B F2"] | None
    """The projection of the class."""


class RowsResnet(GatedResnet, kw_only=True):
    """A gated resnet of the downward stream: 2 × 3 convolutions."""

    right: int = 1

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> RowsResnetCarry:
        nothing = jnp.zeros((width, batch, 2 * self.features), self.dtype)
        return RowsResnetCarry(nothing[..., : self.features], nothing, self.class_gates(labels))

    def row(
        self,
        carry: RowsResnetCarry,
        x: Float[Array, "W B F"],
        beside: tuple[Float[Array, "W B F"], ...],
    ) -> tuple[RowsResnetCarry, Float[Array, "W B F"]]:
        """A row of the stream."""
        y, through_first = self.first.row(carry.through_first, celu(x))
        if beside:
            y = y + self.nin.row_here(jnp.concatenate([celu(b) for b in beside], axis=-1))
        gates, through_second = self.second.row(carry.through_second, celu(y))
        if carry.classes is not None:
            gates = gates + carry.classes[None]
        carry = carry._replace(through_first=through_first, through_second=through_second)
        return carry, x + _gated(gates)


class Contribution(NamedTuple):
    """What other sites give to a site of a resnet: that to the left, or the row above."""

    through_first: Float[Array, "B F"]
    """Through the first convolution."""
    through_second: Float[Array, "B F2"]
    """Through the second."""


class PixelsCarry(NamedTuple):
    """Of some resnets, what the sites before one give to it."""

    row_inputs: Float[Array, "L2 W B F"]
    """A row of inputs of each first convolution, and then of each second one, before celu: up to
    the site, of the row being drawn, and from there on of the row above."""
    left: tuple[Contribution, ...]
    """Of each."""
    classes: Float[Array, "L B F2"] | None
    """The projections of the class."""


class PixelsContext(NamedTuple):
    """What is known of a row before its sites, or one site's share of it, by resnet."""

    through_first: Float[Array, "*W L B F"]
    """What the row above gives through the first convolution, and the downward stream."""
    through_second: Float[Array, "*W L B F2"]
    """What the row above and the class give through the second."""


class PixelsResnet(GatedResnet, kw_only=True):
    """A gated resnet of the downward and rightward stream: 2 × 2 convolutions.

    The first of what it reads beside is the downward stream; a second one is a skip connection.
    """

    right: int = 0
    beside: int = 1

    def site(
        self,
        left: Contribution,
        above: Contribution,
        x: Float[Array, "B F"],
        skip: tuple[Float[Array, "B F"], ...],
    ) -> tuple[Contribution, Float[Array, "B F"], Float[Array, "B F"]]:
        """One site: what it gives to the right, the second convolution's input, and the output."""
        y, through_first = self.first.site(left.through_first, celu(x))
        y = y + above.through_first
        for other in skip:
            y = y + celu(other) @ self.nin.site_matrix(slice(2 * self.features, None))
        gates, through_second = self.second.site(left.through_second, celu(y))
        to_right = Contribution(through_first, through_second)
        return to_right, y, x + _gated(gates + above.through_second)


# Several resnets of that stream at once: fewer and larger matrix products.


def init_pixels(
    resnets: Sequence[PixelsResnet], width: int, batch: int, labels: Labels | None
) -> PixelsCarry:
    """The carry above the first row of an image."""
    features, dtype = resnets[0].features, resnets[0].dtype
    row_inputs = jnp.zeros((2 * len(resnets), width, batch, features), dtype)
    left = Contribution(row_inputs[0, 0], jnp.zeros((batch, 2 * features), dtype))
    classes = [resnet.class_gates(labels) for resnet in resnets]
    return PixelsCarry(
        row_inputs,
        (left,) * len(resnets),
        None if labels is None else jnp.stack([x for x in classes if x is not None]),
    )


def begin_pixels(
    resnets: Sequence[PixelsResnet], carry: PixelsCarry, down: Sequence[Float[Array, "W B F"]]
) -> tuple[PixelsCarry, PixelsContext]:
    """From the row above, and from the downward stream at the row itself, for each resnet."""
    count, num_inputs = len(resnets), 2 * resnets[0].features
    row_inputs = celu(carry.row_inputs)
    through_first = _below([resnet.first for resnet in resnets], row_inputs[:count])
    through_second = _below([resnet.second for resnet in resnets], row_inputs[count:])
    nin = jnp.stack([resnet.nin.site_matrix(slice(num_inputs)) for resnet in resnets])
    bias = jnp.stack([resnet.nin.bias for resnet in resnets]).astype(through_first.dtype)
    through_first = through_first + celu(jnp.stack(down)) @ nin[:, None] + bias[:, None, None]
    if carry.classes is not None:
        through_second = through_second + carry.classes[:, None]
    carry = carry._replace(left=jax.tree.map(jnp.zeros_like, carry.left))
    context = PixelsContext(*(jnp.swapaxes(x, 0, 1) for x in (through_first, through_second)))
    return carry, context


def put_pixels(
    carry: PixelsCarry,
    column: Int[Array, ""],
    left: Sequence[Contribution],
    inputs: Sequence[Float[Array, "B F"]],
) -> PixelsCarry:
    """The carry after a site: what it gives to the right, and the inputs of all convolutions."""
    site = jnp.stack(inputs)[:, None]
    row_inputs = jax.lax.dynamic_update_slice_in_dim(carry.row_inputs, site, column, 1)
    return carry._replace(row_inputs=row_inputs, left=tuple(left))


def _below(convs: Sequence[NormedConv], rows: Float[Array, "L W B I"]) -> Float[Array, "L W B O"]:
    """What rows give to those below, each through its convolution, with the bias."""
    kernels = jnp.stack([conv.below_matrix() for conv in convs])
    bias = jnp.stack([conv.bias for conv in convs]).astype(rows.dtype)
    return moved(rows @ kernels[:, None], convs[0].offsets) + bias[:, None, None]


def _gated(gates: Float[Array, "*batch F2"]) -> Float[Array, "*batch F"]:
    a, b = jnp.split(gates, 2, axis=-1)
    return a * jax.nn.sigmoid(b)
