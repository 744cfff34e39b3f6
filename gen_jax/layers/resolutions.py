"""The resolutions of PixelCNN++: one inside the other, each with its resnets, and their views.

See `gen_jax.models.pixel_cnn_pp`, which says when each of their sites is computed.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from gen_jax.layers.convolution import put
from gen_jax.layers.gated_resnet import (
    Contribution,
    PixelsCarry,
    PixelsContext,
    PixelsResnet,
    RowsResnet,
    RowsResnetCarry,
    begin_pixels,
    init_pixels,
    put_pixels,
)
from gen_jax.layers.weight_norm import NormedConv, TransposedConv
from gen_jax.typing import Array, Dtype, Float, Int, Labels


class LevelCarry(NamedTuple):
    """Of one resolution, what a site hands to the next."""

    down: tuple[RowsResnetCarry, ...]
    """Of each resnet of the downward stream."""
    right: PixelsCarry
    """Of those of the downward and rightward one."""
    half: "HalfCarry | None"
    """Of half the resolution; None at the lowest."""


class LevelContext(NamedTuple):
    """Of one resolution, what is known of a row before its sites, or some sites' share of it."""

    right: PixelsContext
    """For the resnets of the downward and rightward stream."""
    half: "HalfContext | None"
    """For half the resolution; None at the lowest."""


class SiteState(NamedTuple):
    """A site's way through the resnets of a resolution: of those so far,"""

    left: tuple[Contribution, ...]
    """what it gives to the site to the right;"""
    first_inputs: tuple[Float[Array, "B F"], ...]
    """the inputs of their first convolutions;"""
    second_inputs: tuple[Float[Array, "B F"], ...]
    """and of the second ones, before celu."""


class Level(nn.Module, kw_only=True):
    """One resolution: resnets, half the resolution, and resnets that read the earlier ones too."""

    features: int
    num_resnets: int
    depth: int
    """How often the resolution is halved from here on."""
    num_classes: int | None
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        pair = {"features": self.features, "num_classes": self.num_classes}
        pair |= {"dropout": self.dropout, "dtype": self.dtype}
        count = self.num_resnets
        self.before = [Pair(skip=False, **pair) for _ in range(count)]
        self.after = [Pair(skip=True, **pair) for _ in range(count + (self.depth > 0))]
        if self.depth:
            self.half = Half(num_resnets=count, depth=self.depth, **pair)

    def __call__(
        self, down: Float[Array, "B H W F"], right: Float[Array, "B H W F"], labels: Labels | None
    ) -> tuple[Float[Array, "B H W F"], Float[Array, "B H W F"]]:
        outputs = [(down, right)]
        for pair in self.before:
            outputs.append(pair(*outputs[-1], (), (), labels))
        # The last are where the way up starts: from half the resolution, or at the lowest itself.
        down, right = self.half(*outputs[-1], labels) if self.depth else outputs.pop()
        for pair, (skip_down, skip_right) in zip(self.after, reversed(outputs), strict=True):
            down, right = pair(down, right, (skip_down,), (skip_right,), labels)
        return down, right

    # Next site.

    @property
    def pairs(self) -> list["Pair"]:
        """In the order in which they are computed."""
        return [*self.before, *self.after]

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> LevelCarry:
        return LevelCarry(
            down=tuple(pair.down.init_carry(width, batch, labels) for pair in self.pairs),
            right=init_pixels([pair.right for pair in self.pairs], width, batch, labels),
            half=self.half.init_carry(width, batch, labels) if self.depth else None,
        )

    def begin_row(
        self, carry: LevelCarry, down: Float[Array, "W B F"], phase: int
    ) -> tuple[LevelCarry, LevelContext, Float[Array, "W B F"]]:
        """The downward stream at a row, and what it and the rows above give to the row's sites.

        `phase` is the row, modulo the pixels that a site of the lowest resolution stands for.
        """
        carries, outputs = [], [down]
        count = self.num_resnets
        for pair, pair_carry in zip(self.before, carry.down[:count], strict=True):
            pair_carry, output = pair.down.row(pair_carry, outputs[-1], ())
            carries.append(pair_carry)
            outputs.append(output)
        skips, streams = list(outputs), outputs[1:]
        half, half_context = None, None
        if carry.half is not None:
            half, half_context, down = self.half.begin_row(carry.half, outputs[-1], phase)
        else:
            down = skips.pop()
        for pair, pair_carry in zip(self.after, carry.down[count:], strict=True):
            pair_carry, down = pair.down.row(pair_carry, down, (skips.pop(),))
            carries.append(pair_carry)
            streams.append(down)
        right, context = begin_pixels([pair.right for pair in self.pairs], carry.right, streams)
        carry = LevelCarry(tuple(carries), right, half)
        return carry, LevelContext(context, half_context), down

    def site(
        self,
        carry: LevelCarry,
        context: LevelContext,
        i: int,
        column: Int[Array, ""],
        right: Float[Array, "B F"],
    ) -> tuple[LevelCarry, Float[Array, "B F"]]:
        """The downward and rightward stream at site i of those that the context is of."""
        state, skips = SiteState((), (), ()), (right,)
        for _ in self.before:
            state, right = self._resnet(carry, context, i, state, right, ())
            skips = (*skips, right)
        half = None
        if carry.half is not None:
            assert context.half is not None
            half, right = self.half.site(carry.half, context.half, i, column, right)
        else:
            skips = skips[:-1]
        for skip in reversed(skips):
            state, right = self._resnet(carry, context, i, state, right, (skip,))
        inputs = (*state.first_inputs, *state.second_inputs)
        pixels = put_pixels(carry.right, column, state.left, inputs)
        return LevelCarry(carry.down, pixels, half), right

    def _resnet(
        self,
        carry: LevelCarry,
        context: LevelContext,
        i: int,
        state: SiteState,
        right: Float[Array, "B F"],
        skip: tuple[Float[Array, "B F"], ...],
    ) -> tuple[SiteState, Float[Array, "B F"]]:
        """The next resnet of the downward and rightward stream."""
        n = len(state.left)
        above = Contribution(context.right.through_first[i, n], context.right.through_second[i, n])
        left, second_input, out = self.pairs[n].right.site(carry.right.left[n], above, right, skip)
        state = SiteState(
            left=(*state.left, left),
            first_inputs=(*state.first_inputs, right),
            second_inputs=(*state.second_inputs, second_input),
        )
        return state, out


class Pair(nn.Module, kw_only=True):
    """A gated resnet of each stream; `skip`: they read outputs of earlier ones beside."""

    skip: bool
    features: int
    num_classes: int | None
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        common = {"features": self.features, "num_classes": self.num_classes}
        common |= {"dropout": self.dropout, "dtype": self.dtype}
        self.down = RowsResnet(beside=int(self.skip), **common)
        self.right = PixelsResnet(beside=1 + self.skip, **common)

    def __call__(
        self,
        down: Float[Array, "B H W F"],
        right: Float[Array, "B H W F"],
        skip_down: tuple[Float[Array, "B H W F"], ...],
        skip_right: tuple[Float[Array, "B H W F"], ...],
        labels: Labels | None,
    ) -> tuple[Float[Array, "B H W F"], Float[Array, "B H W F"]]:
        down = self.down(down, skip_down, labels)
        return down, self.right(right, (down, *skip_right), labels)


class HalfCarry(NamedTuple):
    """Between one resolution and that below, what a site hands to the next."""

    level: LevelCarry
    """Of half the resolution."""
    shrunk: Float[Array, "W2 B F"]
    """What an odd row of the downward stream gives to half the resolution."""
    shrunk_row: Float[Array, "W B F"]
    """An odd row of the other stream, which half the resolution will read."""
    shrunk_left: Float[Array, "B F"]
    """In an even row, that stream at the last odd column; zeros before it."""
    grown: Float[Array, "W B F"]
    """For an odd row, the second row of the downward stream that a row below gave."""
    grown_row: Float[Array, "W2 B F"]
    """For an odd row, the other stream's row of half the resolution."""
    grown_left: Float[Array, "B F"]
    """For an odd column, the second site of that stream that a site below gave."""


class HalfContext(NamedTuple):
    """What is known of a row before its sites, or some sites' share of it."""

    level: LevelContext | None
    """In an even row, that of half the resolution."""
    shrunk: Float[Array, "*W2 B F"] | None
    """In an even row, what the row above gives to half the resolution."""
    grown: Float[Array, "*W B F"] | None
    """In an odd row, the downward and rightward stream from half the resolution."""


class Half(nn.Module, kw_only=True):
    """The resolution below, between a convolution of stride 2 and a transposed one."""

    features: int
    num_resnets: int
    depth: int
    num_classes: int | None
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        kernel = {"in_features": self.features, "features": self.features, "dtype": self.dtype}
        kernel |= {"kernel_height": 2, "left": 1}
        self.shrink_down = NormedConv(right=1, stride=2, **kernel)
        self.shrink_right = NormedConv(stride=2, **kernel)
        self.grow_down = TransposedConv(right=1, **kernel)
        self.grow_right = TransposedConv(**kernel)
        self.level = Level(
            features=self.features,
            num_resnets=self.num_resnets,
            depth=self.depth - 1,
            num_classes=self.num_classes,
            dropout=self.dropout,
            dtype=self.dtype,
        )

    def __call__(
        self, down: Float[Array, "B H W F"], right: Float[Array, "B H W F"], labels: Labels | None
    ) -> tuple[Float[Array, "B H W F"], Float[Array, "B H W F"]]:
        down, right = self.level(self.shrink_down(down), self.shrink_right(right), labels)
        return self.grow_down(down), self.grow_right(right)

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> HalfCarry:
        row = jnp.zeros((width, batch, self.features), self.dtype)
        half = row[: width // 2]
        level = self.level.init_carry(width // 2, batch, labels)
        return HalfCarry(level, half, row, row[0], row, half, row[0])

    def begin_row(
        self, carry: HalfCarry, down: Float[Array, "W B F"], phase: int
    ) -> tuple[HalfCarry, HalfContext, Float[Array, "W B F"]]:
        """In an even row the row below; in an odd one what the last of them left for it."""
        if phase % 2:
            shrunk = self.shrink_down.row_below(down)
            grown = self.grow_right.second_row(carry.grown_row)
            return carry._replace(shrunk=shrunk), HalfContext(None, None, grown), carry.grown
        below = self.shrink_down.row_here(down) + carry.shrunk
        level, context, below = self.level.begin_row(carry.level, below, phase // 2)
        down, grown = self.grow_down.two_rows(below)
        shrunk = self.shrink_right.biased(self.shrink_right.row_below(carry.shrunk_row))
        carry = carry._replace(
            level=level, shrunk_left=jnp.zeros_like(carry.shrunk_left), grown=grown
        )
        return carry, HalfContext(context, shrunk, None), down

    def site(
        self,
        carry: HalfCarry,
        context: HalfContext,
        i: int,
        column: Int[Array, ""],
        right: Float[Array, "B F"],
    ) -> tuple[HalfCarry, Float[Array, "B F"]]:
        """At an even site of an even row the site below; elsewhere what the last left for it."""
        if context.grown is not None:
            row = put(carry.shrunk_row, right, column)
            return carry._replace(shrunk_row=row), context.grown[i]
        if i % 2:
            return carry._replace(shrunk_left=right), carry.grown_left
        assert context.level is not None
        assert context.shrunk is not None
        inputs = jnp.concatenate([carry.shrunk_left, right], axis=-1)
        below = inputs @ self.shrink_right.site_matrix() + context.shrunk[i // 2]
        level, below = self.level.site(carry.level, context.level, i // 2, column // 2, below)
        right, waiting = self.grow_right.first_pair(below)
        carry = carry._replace(
            level=level, grown_row=put(carry.grown_row, below, column // 2), grown_left=waiting
        )
        return carry, right
