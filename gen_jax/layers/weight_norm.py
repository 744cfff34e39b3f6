"""Weight-normalized convolutions, with strides, and their views (Salimans & Kingma 2016).

A kernel is g · V / ‖V‖, the norm of each output over all that it reads; g and the bias start from
the data: `init` scales and shifts each output to mean 0 and a standard deviation of its own choice
over the images given to it, layer after layer, each layer's output computed again before the next
sees it.

Whole image: `__call__` on `[B, H, W, features]`. Next site: a row of the image at a time, `[W, B,
features]`, where what a row gives to the row below waits in the carry, or a pixel at a time, where
what the row above gives is there when its row begins.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.layers.convolution import columns, param_dtype
from gen_jax.typing import Array, Dtype, Float


class NormedKernel(nn.Module, kw_only=True):
    """A kernel `[rows, taps, I, O]`, its scale and its bias."""

    in_features: int
    """Features that it reads."""
    features: int
    """Features that it gives."""
    kernel_height: int = 1
    """Rows that it reads, or, transposed, gives; the last of those read is its own."""
    left: int = 0
    """Columns that it reads to the left of its own."""
    right: int = 0
    """And to the right."""
    deviation: float = 1.0
    """Standard deviation of its outputs at first."""
    dtype: Dtype = "float32"

    def setup(self) -> None:
        dtype, taps = param_dtype(self.dtype), self.left + 1 + self.right
        shape = (self.kernel_height, taps, self.in_features, self.features)
        self.kernel = self.param("kernel", nn.initializers.normal(0.05), shape, dtype)
        self.scale = self.param("scale", nn.initializers.ones, (self.features,), dtype)
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,), dtype)

    def normalized(self, part: Float[Array, "*shape TO"]) -> Float[Array, "*shape TO"]:
        """g · V / ‖V‖ of a part of V, whose last axis is that of the outputs, of one or more taps.

        The product comes last: what is only sliced and moved, XLA would do in each round of a loop.
        """
        norm = jnp.sqrt(jnp.sum(self.kernel**2, axis=(0, 1, 2)))
        factor = self.scale / jnp.maximum(norm, 1e-12)
        factor = jnp.tile(factor, part.shape[-1] // self.features)
        return (part * factor.reshape((1,) * (part.ndim - 1) + (-1,))).astype(self.dtype)

    def biased(self, x: Float[Array, "*batch O"]) -> Float[Array, "*batch O"]:
        """With the bias."""
        bias = self.bias.astype(x.dtype)
        return x + bias.reshape((1,) * (x.ndim - 1) + (-1,))

    def standardized(
        self, x: Float[Array, "B H W O"], uncropped: Float[Array, "B H2 W2 O"] | None = None
    ) -> Float[Array, "B H W O"]:
        """At `init`, x with the scale and the bias that it shall start with, which are set.

        The moments are those of `uncropped`, where x is a part of it. An output that is constant
        has no scale to be brought to, and is only shifted.
        """
        seen = (x if uncropped is None else uncropped).astype(self.kernel.dtype)
        mean, variance = jnp.mean(seen, axis=(0, 1, 2)), jnp.var(seen, axis=(0, 1, 2))
        known = variance > 1e-10
        scale = self.deviation * jnp.where(known, jax.lax.rsqrt(jnp.where(known, variance, 1)), 1)
        self.put_variable("params", "scale", scale)
        self.put_variable("params", "bias", -mean * scale)
        again = (x.astype(mean.dtype) - mean[None, None, None]) * scale[None, None, None]
        return again.astype(x.dtype)


class NormedConv(NormedKernel, kw_only=True):
    """Convolution with zeros around the image; with a stride s, site (i, j) is that of (si, sj)."""

    stride: int = 1

    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H2 W2 O"]:
        out = jax.lax.conv_general_dilated(
            x,
            self.normalized(self.kernel),
            (self.stride, self.stride),
            ((self.kernel_height - 1, 0), (self.left, self.right)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return self.standardized(out) if self.is_initializing() else self.biased(out)

    @property
    def offsets(self) -> range:
        """The columns that it reads, from its own."""
        return range(-self.left, self.right + 1)

    # A row of sites.

    def row_here(self, x: Float[Array, "W B I"]) -> Float[Array, "W2 B O"]:
        """What a row gives to its own sites, and the bias."""
        return self.biased(self._of_row(x, self.kernel[-1]))

    def row_below(self, x: Float[Array, "W B I"]) -> Float[Array, "W2 B O"]:
        """What it gives to those of the row below."""
        return self._of_row(x, self.kernel[0])

    def row(
        self, above: Float[Array, "W B O"], x: Float[Array, "W B I"]
    ) -> tuple[Float[Array, "W B O"], Float[Array, "W B O"]]:
        """A row of the output, from what the row above gives; and what x gives to the row below."""
        below, here = self.kernel
        both = self._of_row(x, jnp.concatenate([here, below], axis=-1))
        here, below = jnp.split(both, 2, axis=-1)
        return self.biased(here + above), below

    def _of_row(self, x: Float[Array, "W B I"], kernel: Float[Array, "taps I O"]) -> Array:
        if self.stride > 1:
            windows = [column[:: self.stride] for column in columns(x, self.offsets)]
            kernel = self.normalized(kernel.reshape(-1, kernel.shape[-1]))
            return jnp.concatenate(windows, axis=-1) @ kernel
        return moved(x @ self.normalized(side_by_side(kernel)), self.offsets)

    def below_matrix(self) -> Float[Array, "I TO"]:
        """What a site of the row above is multiplied by, for all taps."""
        return self.normalized(side_by_side(self.kernel[0]))

    # One site.

    def site_matrix(self, inputs: slice = slice(None)) -> Float[Array, "TI O"]:
        """What the sites of its own row, one after the other, are multiplied by; some of it."""
        return self.normalized(self.kernel[-1].reshape(-1, self.features)[inputs])

    def site(
        self, left: Float[Array, "B O"], x: Float[Array, "B I"]
    ) -> tuple[Float[Array, "B O"], Float[Array, "B O"]]:
        """What sites give to x's own, from what the left one gives; and what x gives to the right.

        For a kernel of two taps, with no bias.
        """
        both = x @ self.normalized(side_by_side(self.kernel[-1, ::-1]))
        here, right = jnp.split(both, 2, axis=-1)
        return left + here, right


def side_by_side(kernel: Float[Array, "*batch taps I O"]) -> Float[Array, "*batch I TO"]:
    """The taps of a kernel as one matrix."""
    taps, inputs, outputs = kernel.shape[-3:]
    return jnp.swapaxes(kernel, -3, -2).reshape(*kernel.shape[:-3], inputs, taps * outputs)


def moved(products: Float[Array, "*batch W B TO"], offsets: range) -> Float[Array, "*batch W B O"]:
    """What each column gives through all taps, moved to the columns that it is for, and added.

    So only sums are moved, where windows of a convolution's inputs would be several times as long.
    """
    return functools.reduce(
        jnp.add,
        map(_from_column, jnp.split(products, len(offsets), axis=-1), offsets),
    )


def _from_column(x: Float[Array, "*batch W B O"], offset: int) -> Float[Array, "*batch W B O"]:
    """Column j becomes that of j + offset, zero outside."""
    if offset == 0:
        return x
    padding = [(0, 0, 0)] * x.ndim
    padding[-3] = (-offset, offset, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), padding)


class TransposedConv(NormedKernel, kw_only=True):
    """Twice as many rows and columns, by a kernel of height 2 and two or three taps.

    Output (2i + k, 2j + l) is of site (i, j) alone; with a third tap, a `right` one, output
    (2i + k, 2j + 1) is of site (i, j + 1) too.
    """

    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H2 W2 O"]:
        batch, height, width, _ = x.shape
        taps = self._taps(x)
        pairs = self._pairs(taps)  # [B, H, W, row, column, O]
        out = jnp.moveaxis(pairs, 3, 2).reshape(batch, 2 * height, 2 * width, self.features)
        if not self.is_initializing():
            return self.biased(out)
        # The published code takes the moments before it crops: a row and a column of zeros, and
        # what a third tap gives to the left of the image.
        uncropped = jnp.pad(out, ((0, 0), (0, 1), (0, 1), (0, 0)))
        if self.right:
            outside = taps[:, :, 0, :, 2].reshape(batch, 2 * height, 1, self.features)
            outside = jnp.pad(outside, ((0, 0), (0, 1), (0, 0), (0, 0)))
            uncropped = jnp.concatenate([outside, uncropped], axis=2)
        return self.standardized(out, uncropped)

    def two_rows(
        self, x: Float[Array, "W B I"]
    ) -> tuple[Float[Array, "W2 B O"], Float[Array, "W2 B O"]]:
        """The two rows of the output that a row gives."""
        pairs = self._pairs(jnp.moveaxis(self._taps(x), 1, 0)[:, None])  # [B, 1, W, row, column, O]
        rows = jnp.moveaxis(pairs[:, 0], (2, 1, 3), (0, 1, 2))  # [row, W, column, B, O]
        rows = self.biased(rows.reshape(2, -1, *rows.shape[-2:]))
        return rows[0], rows[1]

    def second_row(self, x: Float[Array, "W B I"]) -> Float[Array, "W2 B O"]:
        """The lower of the two, without a third tap."""
        width, batch, _ = x.shape
        pairs = (x @ self._columns(1)).reshape(width, batch, 2, self.features)
        return self.biased(jnp.swapaxes(pairs, 1, 2).reshape(2 * width, batch, self.features))

    def first_pair(self, x: Float[Array, "B I"]) -> tuple[Float[Array, "B O"], Float[Array, "B O"]]:
        """The two sites of the upper row that one site gives, without a third tap."""
        left, right = jnp.split(x @ self._columns(0), 2, axis=-1)
        return self.biased(left), self.biased(right)

    def _columns(self, row: int) -> Float[Array, "I TO"]:
        return self.normalized(side_by_side(self.kernel[row]))

    def _taps(self, x: Float[Array, "*batch I"]) -> Float[Array, "*batch rows taps O"]:
        """What every site gives through every tap."""
        matrix = self.normalized(jnp.moveaxis(self.kernel, 2, 0).reshape(self.in_features, -1))
        return (x @ matrix).reshape(*x.shape[:-1], *self.kernel.shape[:2], self.features)

    def _pairs(self, taps: Float[Array, "B H W rows taps O"]) -> Float[Array, "B H W rows 2 O"]:
        """The left and the right output of every site."""
        if not self.right:
            return taps
        from_right = jnp.pad(taps[:, :, 1:, :, 2], ((0, 0), (0, 0), (0, 1), (0, 0), (0, 0)))
        return jnp.stack([taps[..., 0, :], taps[..., 1, :] + from_right], axis=-2)
