"""Causal convolutions, each with its views.

Whole image: `__call__` on `[B, H, W, features]`. Next site: rows above come in once a row
(`row_above`, over `[rows, W, B, features]`), then a pixel at a time, one channel group after the
other (`site`, a plain matmul over a small window). A block at once: a whole row (`row`). All views
read the same parameters, and the tests hold them equal.

**Channel groups** (van den Oord et al. 2016, §3.4). Feature maps fall into contiguous groups, one
for each site of a pixel. At the centre tap, output group o reads input groups i < o (mask A) or
i ≤ o (mask B); every other open tap is a strictly earlier pixel and is read whole. With one
group, mask A closes the centre pixel.
"""

import itertools
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.typing import Array, Bool, Dtype, Float


def param_dtype(dtype: Dtype) -> Dtype:
    """Parameters stay float32 under bfloat16 compute; float64 compute has float64 parameters."""
    return "float64" if dtype == "float64" else "float32"


def shift_down(x: Float[Array, "B H W F"]) -> Float[Array, "B H W F"]:
    """Row r becomes row r + 1; the new row 0 is zero."""
    return jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))


def gate(x: Float[Array, "*batch F2"]) -> Float[Array, "*batch F"]:
    """tanh(first half) · σ(second half) (van den Oord et al. 2016b, eq. 2)."""
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.tanh(a) * jax.nn.sigmoid(b)


def centre_mask(
    in_features: int, features: int, mask: Literal["A", "B"], groups: int, parts: int = 1
) -> Bool[np.ndarray, "I O"]:
    """What the centre tap may read: input groups i < o (mask A) or i ≤ o (mask B).

    o is the output's group, in each part. ValueError for a kernel that no device could hold: the
    mask is made by the host, and before anything else is known of the size.
    """
    if max(in_features, features) > 2**20 or in_features * features * parts > 2**31:
        raise ValueError(
            f"features make a kernel of {in_features:,} x {features * parts:,}; "
            "accepted: up to 2^20 features, and 2^31 entries"
        )
    inputs = np.arange(in_features)[:, None] // (in_features // groups)
    outputs = np.arange(features)[None, :] // (features // groups)
    return np.tile(inputs < outputs if mask == "A" else inputs <= outputs, (1, parts))


def pick(x: Array, group: int, groups: int, parts: int = 1) -> Array:
    """The columns of one group in every part, of features laid out `[parts, groups, …]`."""
    split = x.reshape(*x.shape[:-1], parts, groups, x.shape[-1] // (parts * groups))
    return jax.lax.collapse(split[..., group, :], x.ndim - 1)


def kernel_init(fan_in: int) -> nn.initializers.Initializer:
    # The fan-in of the open taps: masked ones carry no variance. 0.88: truncation at 2 sigma.
    return nn.initializers.truncated_normal(stddev=max(fan_in, 1) ** -0.5 / 0.8796)


CACHED_WINDOWS = 2**24
"""Bytes of windows that cost no memory traffic: with all else they fill half an H100's cache."""


def rows_conv(
    rows: Float[Array, "rows W B I"], kernel: Float[Array, "rows taps I O"]
) -> Float[Array, "W B O"]:
    """One output row of a convolution with zero padding at the sides.

    A matmul over windows; where these leave the cache and the program is compiled for CUDA, a
    convolution, since memory is what bounds it there and windows are `taps` times as long as rows.
    """
    size = rows[..., 0].size * kernel[0, :, :, 0].size * rows.dtype.itemsize
    if size <= CACHED_WINDOWS:
        return _rows_matmul(rows, kernel)
    return jax.lax.platform_dependent(rows, kernel, cuda=_rows_convolution, default=_rows_matmul)


def _rows_convolution(
    rows: Float[Array, "rows W B I"], kernel: Float[Array, "rows taps I O"]
) -> Float[Array, "W B O"]:
    # As one image, W high and B wide, of which a kernel reads some rows and one column: features
    # come last, and nothing is transposed, as it would be for a batch that is not outermost.
    image = jnp.concatenate(list(rows), axis=-1)[None]
    kernel = jnp.concatenate(list(kernel), axis=1)[:, None]
    side = kernel.shape[0] // 2
    padding = ((side, side), (0, 0))
    return jax.lax.conv_general_dilated(
        image, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def _rows_matmul(
    rows: Float[Array, "rows W B I"], kernel: Float[Array, "rows taps I O"]
) -> Float[Array, "W B O"]:
    num_rows, width = rows.shape[:2]
    taps = kernel.shape[1]
    padded = jnp.pad(rows, ((0, 0), (taps // 2, taps // 2), (0, 0), (0, 0)))
    windows = [padded[r, k : k + width] for r in range(num_rows) for k in range(taps)]
    return jnp.concatenate(windows, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


class RowsConv(nn.Module, kw_only=True):
    """Unmasked convolution over this row and `kernel_height - 1` above, `kernel_width` wide.

    The vertical stack's convolution. It is not causal by itself: its output at row r must be
    shifted down before any site of row r reads it.
    """

    in_features: int
    features: int
    kernel_height: int
    kernel_width: int
    dtype: Dtype = "float32"

    def setup(self) -> None:
        shape = (self.kernel_height, self.kernel_width, self.in_features, self.features)
        init = kernel_init(self.kernel_height * self.kernel_width * self.in_features)
        self.kernel = self.param("kernel", init, shape, param_dtype(self.dtype))
        zeros = nn.initializers.zeros
        self.bias = self.param("bias", zeros, (self.features,), param_dtype(self.dtype))

    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W O"]:
        return _conv(x, self.kernel.astype(x.dtype)) + _broadcast_bias(self.bias, x)

    def row(
        self, rows: Float[Array, "rows W B I"], inside: Float[Array, ""] | float = 1.0
    ) -> Float[Array, "W B O"]:
        """The output's row at the last of `rows`; its bias times `inside`."""
        bias = self.bias.astype(rows.dtype) * inside
        return rows_conv(rows, self.kernel.astype(rows.dtype)) + _broadcast_bias(bias, rows[0])


class MaskedConv(nn.Module, kw_only=True):
    """Causal convolution: `above` rows above, `side` pixels to the left, and the centre by `mask`.

    The rows above are read `side` pixels to both sides. `parts` (2 for a gate's two halves) are
    laid out before the groups: `[parts, groups, features // groups]`. `beside` counts the features
    of a second input, read whole at the same pixel: it must depend on earlier pixels only.
    """

    in_features: int
    """Features that it reads."""
    features: int
    """Features that each part gives."""
    mask: Literal["A", "B"]
    """Whether a group reads earlier groups of its own pixel only (A), or itself too (B)."""
    groups: int = 1
    """Channel groups: sites of a pixel."""
    above: int = 0
    """Rows above that it reads."""
    side: int = 0
    """Pixels to the left that it reads, and in the rows above to both sides."""
    parts: int = 1
    """Outputs of `features` each."""
    beside: int = 0
    """Features of a second input."""
    dtype: Dtype = "float32"

    def setup(self) -> None:
        outputs = self.parts * self.features
        fan_in = (self.above * (2 * self.side + 1) + self.side) * self.in_features
        init = kernel_init(fan_in + (self.in_features if self.mask == "B" else 0))
        dtype = param_dtype(self.dtype)
        self.kernel = self.param("kernel", init, (self.side + 1, self.in_features, outputs), dtype)
        self.bias = self.param("bias", nn.initializers.zeros, (outputs,), dtype)
        if self.above:
            shape = (self.above, 2 * self.side + 1, self.in_features, outputs)
            self.kernel_above = self.param("kernel_above", init, shape, dtype)
        if self.beside:
            init = kernel_init(self.beside)
            self.kernel_beside = self.param("kernel_beside", init, (self.beside, outputs), dtype)

    def __call__(
        self, x: Float[Array, "B H W I"], beside: Float[Array, "B H W J"] | None = None
    ) -> Float[Array, "B H W O"]:
        kernel, bias = self._masked_kernel(x.dtype), _broadcast_bias(self.bias, x)
        if beside is not None:
            bias = bias + beside @ self.kernel_beside.astype(x.dtype)
        if not self.above and not self.side:
            return x @ kernel[0] + bias
        kernel = kernel[None]
        if self.above:
            kernel = jnp.pad(kernel, ((0, 0), (0, self.side), (0, 0), (0, 0)))
            kernel = jnp.concatenate([self.kernel_above.astype(x.dtype), kernel])
        return _conv(x, kernel) + bias

    def row(self, x: Float[Array, "W B I"]) -> Float[Array, "W B O"]:
        """`site` for all pixels and sites of a row at once."""
        return self.row_inputs(x) + _broadcast_bias(self.bias, x)

    def row_inputs(self, x: Float[Array, "W B I"]) -> Float[Array, "W B O"]:
        """What a row says of its own outputs; no bias."""
        kernel = self._masked_kernel(x.dtype).reshape(-1, self.kernel.shape[-1])
        return jnp.concatenate(columns(x, range(-self.side, 1)), axis=-1) @ kernel

    def row_above(self, rows: Float[Array, "rows W B I"]) -> Float[Array, "W B O"]:
        """What the `above` rows above contribute to a row's outputs."""
        return rows_conv(rows, self.kernel_above.astype(rows.dtype))

    def site(
        self, s: int, window: Float[Array, "B SI"] | None, centre: tuple[Float[Array, "B G"], ...]
    ) -> Float[Array, "_ PG"]:
        """The output group of site s at one pixel.

        `window` holds the `side` pixels to the left, flattened; `centre` the pixel's own input
        groups so far, of which only those that the mask opens are read.
        """
        open_groups = s + (self.mask == "B")
        num_inputs = self.side * self.in_features + open_groups * (self.in_features // self.groups)
        inputs = (() if window is None else (window,)) + centre[:open_groups]
        kernel = self.kernel.reshape(-1, self.kernel.shape[-1])[:num_inputs]
        dtype = jnp.dtype(self.dtype)
        bias = self.pick(self.bias.astype(dtype)[None], s)
        if not inputs:  # mask A of a 1 × 1 convolution: nothing is open to the first group
            return bias
        return jnp.concatenate(inputs, axis=-1) @ self.pick(kernel.astype(dtype), s) + bias

    # `site` in parts: what is known before a row, before a pixel, and the pixel itself.

    def from_beside(self, beside: Float[Array, "W B J"]) -> Float[Array, "W B O"]:
        """What the second input says of a row's outputs, and the bias."""
        return beside @ self.kernel_beside.astype(beside.dtype) + _broadcast_bias(self.bias, beside)

    def from_left(self, window: Float[Array, "B SI"]) -> Float[Array, "B O"]:
        """What the `side` pixels to the left, flattened, say of a pixel's outputs."""
        return window @ self.left_kernel()

    def left_kernel(self) -> Float[Array, "SI O"]:
        """The kernel of the pixels to the left."""
        # Tap after tap: by a slice reshaped, XLA's GPU backend may find no tiles for the matmul.
        return jnp.concatenate([self.kernel[tap] for tap in range(self.side)]).astype(self.dtype)

    def from_centre(
        self, s: int, centre: tuple[Float[Array, "B G"], ...]
    ) -> Float[Array, "B PG"] | Float[Array, ""]:
        """What the pixel's own input groups so far say of the output group of site s."""
        inputs = centre[: s + (self.mask == "B")]
        if not inputs:
            return jnp.zeros((), self.dtype)
        kernel = self.kernel[-1, : len(inputs) * (self.in_features // self.groups)]
        return jnp.concatenate(inputs, axis=-1) @ self.pick(kernel.astype(self.dtype), s)

    def _masked_kernel(self, dtype: np.dtype) -> Float[Array, "taps I O"]:
        mask = centre_mask(self.in_features, self.features, self.mask, self.groups, self.parts)
        kernel = self.kernel.astype(dtype)
        return kernel.at[-1].multiply(mask.astype(dtype))

    def pick(self, x: Array, s: int) -> Array:
        """The columns of the output group of site s, in every part."""
        return pick(x, s, self.groups, self.parts)


class HeadState(NamedTuple):
    """A pixel's way through the head."""

    inputs: tuple[tuple[Float[Array, "B G"], ...], ...]
    """Of each convolution, the input groups so far."""


class Head(nn.Module, kw_only=True):
    """ReLU and masked 1 × 1 convolutions down to the parameters of every site."""

    in_features: int
    hidden: tuple[int, ...]
    features: int
    groups: int
    dtype: Dtype = "float32"

    def setup(self) -> None:
        sizes = (self.in_features, *self.hidden, self.features)
        self.convs = [
            MaskedConv(in_features=i, features=o, mask="B", groups=self.groups, dtype=self.dtype)
            for i, o in itertools.pairwise(sizes)
        ]

    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W O"]:
        for conv in self.convs:
            x = conv(jax.nn.relu(x))
        return x

    def open_pixel(self) -> HeadState:
        """Before the first site of a pixel."""
        return HeadState(((),) * len(self.convs))

    def site(
        self, s: int, state: HeadState, x: Float[Array, "B G"]
    ) -> tuple[HeadState, Float[Array, "B P"]]:
        """The parameters of site s, from its group of the features."""
        inputs = []
        for conv, before in zip(self.convs, state.inputs, strict=True):
            inputs.append((*before, jax.nn.relu(x)))
            x = conv.site(s, None, inputs[-1])
        return HeadState(tuple(inputs)), x


def columns(x: Float[Array, "W B F"], offsets: range) -> list[Float[Array, "W B F"]]:
    """The row moved so that column j holds column j + offset, zero outside."""
    width, reach = x.shape[0], max(abs(offsets[0]), abs(offsets[-1]))
    padded = jnp.pad(x, ((reach, reach), (0, 0), (0, 0)))
    return [padded[reach + offset : reach + offset + width] for offset in offsets]


def push(window: Float[Array, "*B SI"], pixel: Float[Array, "*B I"]) -> Float[Array, "*B SI"]:
    """A window of flattened pixels, moved one to the right."""
    return jnp.concatenate([window, pixel], axis=-1)[..., pixel.shape[-1] :]


def put(row: Float[Array, "W B F"], pixel: Float[Array, "B F"], column: Array) -> Array:
    """The row with one pixel written. (`.at[].set` guards its index, at the price of a read.)"""
    return jax.lax.dynamic_update_index_in_dim(row, pixel, column, 0)


def _broadcast_bias(bias: Array, like: Array) -> Array:
    return bias.astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))


def _conv(x: Array, kernel: Array) -> Array:
    """Zero-padded so that output (r, c) ends at input row r; odd kernels are centred at c.

    A one-row kernel reads columns to the left and c itself.
    """
    kernel_height, taps = kernel.shape[:2]
    sides = (taps - 1, 0) if kernel_height == 1 else (taps // 2, taps // 2)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        ((kernel_height - 1, 0), sides),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
