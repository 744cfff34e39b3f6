"""PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks").

    p(x) = prod_i p(x_i | x_<i),   sites in raster order, R → G → B inside a pixel

One stack of masked convolutions: 7 × 7 with mask A, then residual blocks of ReLU 1 × 1, 3 × 3,
1 × 1 with mask B. It has a **blind spot**: through any number of layers, a pixel to the right in
the rows above is seen only within a cone (`receptive_field` says which). `GatedPixelCNN` has none.

A departure on purpose: a class, where there is one, is projected into the first layer and into
every 3 × 3 convolution, as in the conditional Gated PixelCNN.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.layers.convolution import Head, MaskedConv, param_dtype, push
from gen_jax.models.autoregressive import (
    AutoregressiveModel,
    Carry,
    Context,
    at_least,
    check_kernel_size,
)
from gen_jax.typing import Array, Draw, Dtype, Float, Integer, Labels, Levels, SiteParams


class PixelCNN(AutoregressiveModel):
    """PixelCNN: one stack of masked convolutions. `features` is h: the stack carries 2h maps."""

    kernel_size: int = 3
    """Of the residual blocks' convolutions, odd."""
    first_kernel_size: int = 7
    """Of the first convolution, odd."""
    head_features: int | None = None
    """Width of the head's two hidden layers; None for 2h."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kernel_size("kernel_size", self.kernel_size)
        check_kernel_size("first_kernel_size", self.first_kernel_size)
        if self.head_features is not None:
            at_least("head_features", self.head_features, 1)

    def setup(self) -> None:
        groups, width = self.sites, self.width
        self.first = ClassConv(
            self.image_shape[-1],
            2 * width,
            "A",
            groups,
            self.first_kernel_size // 2,
            self.num_classes,
            self.dtype,
        )
        self.residual_blocks = [
            ResidualBlock(
                width, self.kernel_size, groups, self.num_classes, self.dropout, self.dtype
            )
            for _ in range(self.num_layers)
        ]
        hidden = self.round_up(self.head_features or 2 * width)
        self.head = Head(
            in_features=2 * width,
            hidden=(hidden, hidden),
            features=groups * self.params_per_site,
            groups=groups,
            dtype=self.dtype,
        )

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        self.check(images, labels)
        x = self.first(self.scale(jnp.asarray(images)), labels)
        for block in self.residual_blocks:
            x = block(x, labels)
        return self.site_params(self.head(x))

    # The carry of every convolution is the rows above in its input, the last of which is the row
    # being drawn and is written step by step, the pixels to the left, and the class projection.

    def init_carry(self, batch: int, labels: Labels | None = None) -> Carry:
        width = self.image_shape[1]
        convs = [self.first, *(block.conv for block in self.residual_blocks)]
        return [conv.init_carry(width, batch, labels) for conv in convs]

    def begin_block(
        self, carry: Carry, block: Integer[Array, ""], previous: Integer[Array, "W S B V"]
    ) -> tuple[Carry, Context]:
        del block  # rows above the image are zeros in the carry
        convs = [self.first, *(block.conv for block in self.residual_blocks)]
        begun = [conv.begin_row(conv_carry) for conv, conv_carry in zip(convs, carry, strict=True)]
        carries, contexts = zip(*begun, strict=True)
        return list(carries), (jnp.arange(len(previous)), contexts)

    def step(self, carry: Carry, context: Context, draw: Draw) -> Carry:
        column, contexts = context
        levels: list[Array] = []
        inputs: list[Array] = []
        first, finish_first = self.first.pixel(carry[0], contexts[0], column, levels)
        advance: list[Callable[[int], None]] = [lambda s: inputs.append(first(s))]
        finish = [finish_first]
        outputs = inputs
        for block, block_carry, block_context in zip(
            self.residual_blocks, carry[1:], contexts[1:], strict=True
        ):
            group, outputs, done = block.pixel(block_carry, block_context, column, outputs)
            advance.append(group)
            finish.append(done)
        head = self.head.pixel(outputs)
        for s in range(self.sites):
            for group in advance:
                group(s)
            levels.append(self.scale(draw(s, self.site_vector(head(s)))))
        return [done() for done in finish]

    def receptive_field(self) -> np.ndarray:
        """bool [H, W, H, W]: `field[r, c]` marks the pixels that pixel (r, c) depends on.

        Earlier pixels that it leaves out are the blind spot. (The pixel's own earlier channel
        groups are read too, wherever `field` is about whole pixels.)
        """
        height, width, _ = self.image_shape
        first = _hops(self.first_kernel_size // 2)
        other = [*_hops(self.kernel_size // 2), (0, 0)]
        # (rows up, columns left) that a path through the stack can lead: one hop of the first
        # layer, which leaves the pixel, then a hop or none in each block.
        reach = set(first)
        for _ in range(self.num_layers):
            reach |= {
                (up + hop_up, left + hop_left)
                for up, left in reach
                for hop_up, hop_left in other
                if up + hop_up < height and abs(left + hop_left) < width
            }
        field = np.zeros((height, width, height, width), bool)
        for r, c in np.ndindex(height, width):
            for up, left in reach:
                if r - up >= 0 and 0 <= c - left < width:
                    field[r, c, r - up, c - left] = True
        return field


def _hops(reach: int) -> list[tuple[int, int]]:
    """(rows up, columns left) of a masked kernel's open taps, the centre apart."""
    above = [(up, left) for up in range(1, reach + 1) for left in range(-reach, reach + 1)]
    return above + [(0, left) for left in range(1, reach + 1)]


class ResidualBlock(nn.Module):
    """ReLU 1 × 1 (2h → h), ReLU 3 × 3 (h → h), ReLU 1 × 1 (h → 2h), added to the input."""

    features: int
    kernel_size: int
    groups: int
    num_classes: int | None
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        h, groups, dtype = self.features, self.groups, self.dtype
        self.down = MaskedConv(2 * h, h, "B", groups, dtype=dtype)
        self.conv = ClassConv(h, h, "B", groups, self.kernel_size // 2, self.num_classes, dtype)
        self.up = MaskedConv(h, 2 * h, "B", groups, dtype=dtype)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, x: Float[Array, "B H W I"], labels: Labels | None) -> Array:
        hidden = jax.nn.relu(self.down(jax.nn.relu(x)))
        hidden = jax.nn.relu(self.conv(hidden, labels))
        hidden = self.drop(hidden, deterministic=not self.has_rng("dropout"))
        return x + self.up(hidden)

    def pixel(
        self, carry: Carry, context: Array, column: Array, inputs: list[Array]
    ) -> tuple[Callable[[int], None], list[Array], Callable[[], Carry]]:
        """One pixel: `group(s)` appends output group s; `finish()` gives the next carry."""
        rectified: list[Array] = []
        narrow: list[Array] = []
        convolved: list[Array] = []
        outputs: list[Array] = []
        convolve, finish = self.conv.pixel(carry, context, column, narrow)

        def group(s: int) -> None:
            rectified.append(jax.nn.relu(inputs[s]))
            narrow.append(jax.nn.relu(self.down.group(s, None, rectified)))
            convolved.append(jax.nn.relu(convolve(s)))
            outputs.append(inputs[s] + self.up.group(s, None, convolved))

        return group, outputs, finish


class ClassConv(nn.Module):
    """A masked k × k convolution plus the projection of the class; `reach` is k // 2."""

    in_features: int
    features: int
    mask: str
    groups: int
    reach: int
    num_classes: int | None
    dtype: Dtype

    def setup(self) -> None:
        self.conv = MaskedConv(
            self.in_features,
            self.features,
            "A" if self.mask == "A" else "B",
            self.groups,
            above=self.reach,
            side=self.reach,
            dtype=self.dtype,
        )
        if self.num_classes is not None:
            self.classes = nn.Embed(
                self.num_classes,
                self.features,
                dtype=self.dtype,
                param_dtype=param_dtype(self.dtype),
            )

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
    ) -> tuple[Callable[[int], Array], Callable[[], Carry]]:
        """One pixel: `group(s)` gives output group s; `finish()` the next carry."""
        rows, window, classes = carry

        def group(s: int) -> Array:
            return self.conv.group(s, window, inputs) + self.conv.pick(context, s)

        def finish() -> Carry:
            pixel = jnp.concatenate(inputs, axis=-1)
            return rows.at[-1, column].set(pixel), push(window, pixel), classes

        return group, finish
