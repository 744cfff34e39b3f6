"""A masked convolution that knows the class, with its two views."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.layers.class_embedding import ClassEmbedding
from gen_jax.layers.convolution import MaskedConv, push
from gen_jax.typing import Array, Carry, Dtype, Float, Labels


class ClassConv(nn.Module):
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
            self.in_features,
            self.features,
            self.mask,
            self.groups,
            above=self.reach,
            side=self.reach,
            dtype=self.dtype,
        )
        if self.num_classes is not None:
            self.classes = ClassEmbedding(self.num_classes, self.features, self.dtype)

    def __call__(self, x: Float[Array, "B H W I"], labels: Labels | None) -> Array:
        out = self.conv(x)
        return out if self.num_classes is None else out + self.classes(labels)[:, None, None, :]

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> Carry:
        rows = jnp.zeros((self.reach, width, batch, self.in_features), self.dtype)
        window = jnp.zeros((batch, self.reach * self.in_features), self.dtype)
        return rows, window, None if self.num_classes is None else self.classes(labels)

    def begin_row(self, carry: Carry) -> tuple[Carry, Float[Array, "W B O"]]:
        """The rows above and the class, for every column; then room for a new row."""
        rows, window, classes = carry
        context = self.conv.row_above(rows)
        if classes is not None:
            context = context + classes[None]
        rows = jnp.concatenate([rows[1:], jnp.zeros_like(rows[:1])])
        return (rows, jnp.zeros_like(window), classes), context

    def pixel(
        self, carry: Carry, context: Float[Array, "B O"], column: Array, inputs: list[Array]
    ) -> tuple[Callable[[int], None], list[Array], Callable[[], Carry]]:
        """One pixel: `group(s)` appends output group s; `finish()` gives the next carry."""
        rows, window, classes = carry
        outputs: list[Array] = []

        def group(s: int) -> None:
            outputs.append(self.conv.group(s, window, inputs) + self.conv.pick(context, s))

        def finish() -> Carry:
            pixel = jnp.concatenate(inputs, axis=-1)
            corner = (self.reach - 1, column, 0, 0)
            rows_now = jax.lax.dynamic_update_slice(rows, pixel[None, None], corner)
            return rows_now, push(window, pixel), classes

        return group, outputs, finish
