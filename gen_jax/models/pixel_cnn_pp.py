"""PixelCNN++ (Salimans, Karpathy, Chen & Kingma 2017), after its code, openai/pixel-cnn.

    p(x | y) = prod_i p(x_i | x_<i, y),   i over the pixels in raster order

Two streams, no blind spot: a downward one reads the rows above, a downward and rightward one also
the pixels to the left. Both run through three resolutions, down and up again, with skip connections
(section 2.4, figure 2): gated resnets, a convolution of stride 2, gated resnets at half the
resolution, once more at a quarter, and back through transposed convolutions. A pixel is drawn at
once, from any likelihood with one site a pixel.

**Next site.** A half-resolution site (i, j) reads what is above and to the left of pixel (2i, 2j),
and is computed when that pixel is drawn, the first of its 2 × 2 block; a quarter-resolution one at
the first pixel of its 4 × 4 block. A transposed convolution gives two rows, or two columns, at
once; the second waits in the carry. So nothing is computed twice, and what is computed at a pixel
depends on its row and column modulo 4: a step draws four pixels, and four kinds of rows take turns.

Departures: an output that is constant over the images that `init` looks at keeps its scale; what is
drawn is rounded to a level before the next channel reads it, as in training.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import checks
from gen_jax.layers.convolution import shift_down
from gen_jax.layers.resolutions import Level, LevelCarry, LevelContext
from gen_jax.layers.weight_norm import NormedConv
from gen_jax.likelihoods import DiscretizedLogisticMixture, Likelihood
from gen_jax.models.shared.autoregressive import AutoregressiveModel
from gen_jax.typing import Array, Draw, Float, Int, Integer, Labels, Levels, SiteParams

_BLOCK = 4
"""Height and width of what a quarter-resolution site stands for."""
_EXAMPLES = 100
"""Images that `init` looks at."""


class PixelCNNPlusPlus(AutoregressiveModel):
    """PixelCNN++: two streams through three resolutions, no blind spot.

    Salimans et al. 2017, "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture
    Likelihood and Other Modifications". Height and width are multiples of 4; the likelihood has
    one site a pixel. `init` looks at images: give it a hundred of the training set, and a `dropout`
    key beside that of the parameters.
    """

    likelihood: Likelihood = DiscretizedLogisticMixture(256, 10)
    features: int = 160
    """Filters of every layer."""
    dropout: float = 0.5
    """Dropout rate in [0, 1), inside each resnet. It acts in training; in Python where `apply`
    has a `dropout` rng."""
    num_resnets: int = 5
    """Gated resnets of a stream at each resolution on the way down.
    On the way up there is one more, except at the lowest resolution."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("num_resnets", self.num_resnets, 1)
        height, width, channels = self.image_shape
        if height % _BLOCK or width % _BLOCK:
            raise ValueError(
                f"image_shape is {self.image_shape}; accepted by PixelCNNPlusPlus: heights and "
                f"widths that are multiples of {_BLOCK}"
            )
        if self.sites != 1:
            raise ValueError(
                f"likelihood is {self.likelihood}, which draws {channels} channels one by one; "
                "accepted by PixelCNNPlusPlus: one site a pixel, such as "
                "DiscretizedLogisticMixture"
            )

    def setup(self) -> None:
        read, features, dtype = self.image_shape[-1] + 1, self.features, self.dtype
        self.above = NormedConv(
            in_features=read, features=features, kernel_height=2, left=1, right=1, dtype=dtype
        )
        self.above_left = NormedConv(
            in_features=read, features=features, left=1, right=1, dtype=dtype
        )
        self.left = NormedConv(in_features=read, features=features, kernel_height=2, dtype=dtype)
        self.level = Level(
            features=features,
            num_resnets=self.num_resnets,
            depth=2,
            num_classes=self.num_classes,
            dropout=self.dropout,
            dtype=dtype,
        )
        self.head = NormedConv(in_features=features, features=self.params_per_site, dtype=dtype)

    @property
    def needs_examples(self) -> bool:
        return True

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        images, labels = self.check(images, labels)
        if not self.is_initializing():
            return self.site_params(self.output(images, labels), images, labels)
        # One in so many is looked at, and stands for the others.
        every = -(-len(images) // _EXAMPLES)
        output = self.output(images[::every], None if labels is None else labels[::every])
        output = jnp.repeat(output, every, axis=0)[: len(images)]
        return self.site_params(output, images, labels)

    def output(self, images: Levels, labels: Labels | None) -> Float[Array, "B H W P"]:
        """The head's."""
        x = self.marked(self.scale(jnp.asarray(images)))
        down = shift_down(self.above(x))
        right = shift_down(self.above_left(x)) + shift_right(self.left(x))
        _, right = self.level(down, right, labels)
        return self.head(jax.nn.elu(right))

    def marked(self, x: Float[Array, "*batch C"]) -> Float[Array, "*batch C1"]:
        """With a channel of ones, which tells the image from what is around it."""
        return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)

    # Next site: a block is a row, a step four pixels.

    phases = _BLOCK

    def blocks(self) -> np.ndarray:
        height, width, _ = self.image_shape
        return np.arange(height * width).reshape(height, width // _BLOCK, _BLOCK)

    def init_carry(self, batch: int, labels: Labels | None = None) -> "PixelCNNPlusPlusCarry":
        width, channels = self.image_shape[1:]
        return PixelCNNPlusPlusCarry(
            above=jnp.zeros((width, batch, self.features), self.dtype),
            left=jnp.zeros((batch, channels + 1), self.dtype),
            level=self.level.init_carry(width, batch, labels),
        )

    def begin_block(
        self,
        carry: "PixelCNNPlusPlusCarry",
        block: Integer[Array, ""],
        previous: Integer[Array, "T S B V"],
        phase: int,
    ) -> tuple["PixelCNNPlusPlusCarry", "PixelCNNPlusPlusContext"]:
        steps, _, batch, _ = previous.shape
        row = self.marked(self.scale_row(previous.reshape(steps * _BLOCK, 1, batch, -1)))
        # A stream's first row and column are shifted in: zeros, to which no bias is added.
        inside = jnp.asarray(phase > 0 or block > 0, self.dtype)[None, None, None]
        row = row * inside
        down, above = self.above.row(carry.above, row)
        right = self.above_left.row_here(row) * inside
        left = self.left.biased(self.left.row_below(row))
        right = right + jnp.pad(left[:-1], ((1, 0), (0, 0), (0, 0)))
        level, context, _ = self.level.begin_row(carry.level, down * inside, phase)
        context = PixelCNNPlusPlusContext(jnp.arange(steps * _BLOCK), right, context)
        carry = PixelCNNPlusPlusCarry(above, jnp.zeros_like(carry.left), level)
        return carry, jax.tree.map(lambda x: x.reshape(steps, -1, *x.shape[1:]), context)

    def step(
        self,
        carry: "PixelCNNPlusPlusCarry",
        context: "PixelCNNPlusPlusContext",
        draw: Draw,
    ) -> "PixelCNNPlusPlusCarry":
        draw = self.scaled(draw)
        kernel = self.left.site_matrix()
        for i in range(_BLOCK):
            right = context.right[i] + carry.left @ kernel
            level, right = self.level.site(carry.level, context.level, i, context.column[i], right)
            pixel = draw(i, self.head.biased(jax.nn.elu(right) @ self.head.site_matrix()))
            carry = PixelCNNPlusPlusCarry(carry.above, self.marked(pixel), level)
        return carry


def shift_right(x: Float[Array, "B H W F"]) -> Float[Array, "B H W F"]:
    """Column c becomes column c + 1; the new column 0 is zero."""
    return jnp.pad(x[:, :, :-1], ((0, 0), (0, 0), (1, 0), (0, 0)))


class PixelCNNPlusPlusCarry(NamedTuple):
    """What a pixel hands to the next."""

    above: Float[Array, "W B F"]
    """What the row above the one before gives to the downward stream's first row."""
    left: Float[Array, "B C1"]
    """The pixel to the left; zeros at column 0."""
    level: LevelCarry
    """Of the full resolution, and of those in it."""


class PixelCNNPlusPlusContext(NamedTuple):
    """What a row knows before its pixels, or four pixels' share of it."""

    column: Int[Array, "*W"]
    """Where in its row each pixel is."""
    right: Float[Array, "*W B F"]
    """What the row above gives to the downward and rightward stream."""
    level: LevelContext
    """For the full resolution, and for those in it."""
