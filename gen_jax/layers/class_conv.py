"""A masked convolution that knows the class, with its views."""

from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.layers.class_embedding import ClassEmbedding
from gen_jax.layers.convolution import MaskedConv, push
from gen_jax.layers.site_layer import Groups, grown
from gen_jax.typing import Array, Dtype, Float, Int, Labels


class ClassConvCarry(NamedTuple):
    """What the convolution reads of the pixels before one."""

    rows: Float[Array, "rows W B I"]
    """Rows above in its input; the last is the row being drawn, written pixel by pixel."""
    window: Float[Array, "B SI"]
    """The pixels to the left, flattened."""
    classes: Float[Array, "B O"] | None
    """The projection of the class."""


class ClassConvState(NamedTuple):
    """A pixel's way through the convolution."""

    carry: ClassConvCarry
    """As it was before the pixel."""
    above: Float[Array, "B O"]
    """What the rows above and the class contribute."""
    column: Int[Array, ""]
    """Where in its row the pixel is."""
    inputs: Groups
    """The pixel's own input groups so far."""


class ClassConv(nn.Module, kw_only=True):
    """A masked k × k convolution plus the projection of the class; `reach` is k // 2."""

    in_features: int
    features: int
    mask: Literal["A", "B"]
    groups: int
    reach: int
    num_classes: int | None
    dtype: Dtype

    def setup(self) -> None:
        self.conv = MaskedConv(
            in_features=self.in_features,
            features=self.features,
            mask=self.mask,
            groups=self.groups,
            above=self.reach,
            side=self.reach,
            dtype=self.dtype,
        )
        if self.num_classes is not None:
            self.classes = ClassEmbedding(
                num_classes=self.num_classes, features=self.features, dtype=self.dtype
            )

    def __call__(self, x: Float[Array, "B H W I"], labels: Labels | None) -> Array:
        out = self.conv(x)
        return out if self.num_classes is None else out + self.classes(labels)[:, None, None, :]

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> ClassConvCarry:
        return ClassConvCarry(
            rows=jnp.zeros((self.reach, width, batch, self.in_features), self.dtype),
            window=jnp.zeros((batch, self.reach * self.in_features), self.dtype),
            classes=None if self.num_classes is None else self.classes(labels),
        )

    def begin_row(self, carry: ClassConvCarry) -> tuple[ClassConvCarry, Float[Array, "W B O"]]:
        """The rows above and the class, for every column; then room for a new row."""
        above = self.conv.row_above(carry.rows)
        if carry.classes is not None:
            above = above + carry.classes[None]
        # The oldest row has room for the new one, of which no pixel is read before it is written.
        rows = jnp.concatenate([carry.rows[1:], carry.rows[:1]])
        return carry._replace(rows=rows, window=jnp.zeros_like(carry.window)), above

    def read_row(
        self, carry: ClassConvCarry, context: Float[Array, "W B O"], x: Float[Array, "W B I"]
    ) -> tuple[ClassConvCarry, Float[Array, "W B O"]]:
        rows = jnp.concatenate([carry.rows[:-1], x[None]])
        return carry._replace(rows=rows), self.conv.row(x) + context

    def open_pixel(
        self, carry: ClassConvCarry, context: Float[Array, "B O"], column: Int[Array, ""]
    ) -> ClassConvState:
        return ClassConvState(carry, context, column, ())

    def site(
        self, s: int, state: ClassConvState, x: Float[Array, "B G"] | None
    ) -> tuple[ClassConvState, Float[Array, "B G2"]]:
        inputs = grown(state.inputs, x)
        out = self.conv.site(s, state.carry.window, inputs) + self.conv.pick(state.above, s)
        return state._replace(inputs=inputs), out

    def close_pixel(
        self, state: ClassConvState, x: Float[Array, "B G"] | None = None
    ) -> ClassConvCarry:
        carry, pixel = state.carry, jnp.concatenate(grown(state.inputs, x), axis=-1)
        corner = (self.reach - 1, state.column, 0, 0)
        return carry._replace(
            rows=jax.lax.dynamic_update_slice(carry.rows, pixel[None, None], corner),
            window=push(carry.window, pixel),
        )
