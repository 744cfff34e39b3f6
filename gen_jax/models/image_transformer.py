"""Image Transformer (Parmar et al. 2018, "Image Transformer").

    p(x) = prod_i p(x_i | x_<i),   sites in blocks of raster order (`gen_jax.layers.query_blocks`)

A site is a token, a channel of a pixel or a pixel as the likelihood has it. The token *at* a site
is the embedding of the level drawn just before it in generation order (nothing at the first site,
not level 0), plus an embedding of the site's row and column; layers of causal self-attention and a
feed-forward network follow, then the parameters of the site. Attention is to a local memory, in one
or two dimensions, or to everything before (`full`).

Departures on purpose: layer normalisation stands before each sublayer and once at the end, not
after each, and what a sublayer adds starts at 1 / 2L of its input's variance in L layers, which
trains without care; the shift by one site runs across the borders of blocks, so that every site but
the last is seen by later ones (tensor2tensor shifts inside each block).

In the next-site view keys and values are cached; `begin_block` gathers a block's memory, and a step
is one query.
"""

import functools
import math
from typing import Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import checks
from gen_jax.layers.attention import AttentionCarry, CausalAttention, Place
from gen_jax.layers.class_embedding import ClassEmbedding
from gen_jax.layers.convolution import param_dtype
from gen_jax.layers.query_blocks import Attention, QueryBlocks
from gen_jax.models.shared.autoregressive import AutoregressiveModel
from gen_jax.typing import (
    Array,
    Bool,
    Draw,
    Dtype,
    Float,
    Int,
    Integer,
    Labels,
    Levels,
    SiteParams,
)

Positions: TypeAlias = Literal["sinusoid", "learned"]

_QUERY_BLOCK = {"local_1d": 256, "local_2d": (16, 16), "full": 1}
# Of full attention, where a block only says how much of the past is complete. More of them would
# read less that is masked, and take longer to compile.
_FULL_BLOCKS = 4
_MOST_FULL_BLOCKS = 16
_MEMORY_FLANGE = {"local_1d": None, "local_2d": (16, 32), "full": None}


class ImageTransformer(AutoregressiveModel):
    """Image Transformer: causal self-attention over query blocks (Parmar et al. 2018).

    `features` is d, a multiple of `num_heads`. Sites are generated block after block, in raster
    order inside a block.
    """

    num_layers: int = 7
    """Number of layers."""
    attention: Attention = "local_1d"
    """What a site attends to beside the sites of its own block, all of it generated before.
    local_1d: the block before. local_2d: rows above the block, and sites to its left.
    full: all blocks before."""
    num_heads: int = 4
    """Attention heads of each layer."""
    query_block: int | tuple[int, int] | None = None
    """Sites of a block, changed where blocks cut off at the edges would cost more than 5 %.
    local_1d: how many (256 by default). local_2d: rows and columns (16 × 16). full: how many, at
    least a 16th of the image (a quarter by default), for speed alone."""
    memory_flange: tuple[int, int] | None = None
    """For local_2d, what is attended to around a block, 16 × 32 by default: so many rows above it,
    with so many sites more on both sides, and as many sites to the left of its own rows."""
    feedforward_features: int | None = None
    """Width of the feed-forward networks' hidden layer; None for 4 · features."""
    positions: Positions = "sinusoid"
    """Embedding of a site's row and column: fixed sines and cosines, or learned."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("num_layers", self.num_layers, 1)
        checks.whole("num_heads", self.num_heads, 1)
        if self.features % self.num_heads:
            raise ValueError(
                f"features is {self.features}; accepted: multiples of num_heads, {self.num_heads}"
            )
        if self.feedforward_features is not None:
            checks.whole("feedforward_features", self.feedforward_features, 1)
        checks.choice("attention", self.attention, Attention)
        checks.choice("positions", self.positions, Positions)
        _check_form("query_block", self.query_block, _QUERY_BLOCK[self.attention], 1)
        if self.attention == "full" and isinstance(self.query_block, int):
            # Each block is a program of its own, by the number of blocks before it.
            height, width, _ = self.image_shape
            least = -(-height * width * self.sites // _MOST_FULL_BLOCKS)
            checks.whole("query_block", self.query_block, least)
        _check_form("memory_flange", self.memory_flange, _MEMORY_FLANGE[self.attention], 0)

    @property
    def query_blocks(self) -> QueryBlocks:
        """Blocks, generation order and memory of this image shape."""
        height, width, _ = self.image_shape
        block = self.query_block or _QUERY_BLOCK[self.attention]
        if self.attention == "full" and self.query_block is None:
            block = -(-height * width * self.sites // _FULL_BLOCKS)
        flange = self.memory_flange or _MEMORY_FLANGE[self.attention] or (0, 0)
        block = (1, block) if isinstance(block, int) else block
        return QueryBlocks(self.attention, height, width * self.sites, block, flange)

    def for_accelerator(self) -> "ImageTransformer":
        """The same model with one block, if attention is full: a step is then fewer kernels.

        A CPU reads only the blocks that are complete; an accelerator reads all of them, masked.
        """
        if self.attention != "full" or self.query_block is not None:
            return self
        height, width, _ = self.image_shape
        return self.clone(query_block=height * width * self.sites)

    def setup(self) -> None:
        dtype, params = self.dtype, param_dtype(self.dtype)
        # Levels are tokens, one table a channel; a pixel of coupled channels is projected.
        unit = nn.initializers.normal(self.features**-0.5)
        if self.values_per_site == 1:
            tokens = self.sites * self.likelihood.levels
            self.embedding = nn.Embed(tokens, self.features, dtype, params, embedding_init=unit)
        else:
            self.projection = nn.Dense(self.features, dtype=dtype, param_dtype=params)
        if self.positions == "learned":
            num_rows, num_columns = self.image_shape[0], self.image_shape[1] * self.sites
            init = nn.initializers.normal(0.5)
            self.row_positions = self.param(
                "row_positions", init, (num_rows, self.features), params
            )
            self.column_positions = self.param(
                "column_positions", init, (num_columns, self.features), params
            )
        if self.num_classes is not None:
            self.classes = ClassEmbedding(
                num_classes=self.num_classes, features=self.features, dtype=dtype
            )
        self.layers = [
            TransformerLayer(
                features=self.features,
                feedforward_features=self.feedforward_features or 4 * self.features,
                num_heads=self.num_heads,
                blocks=self.query_blocks,
                out_scale=1 / (2 * self.num_layers),
                dropout=self.dropout,
                dtype=self.dtype,
            )
            for _ in range(self.num_layers)
        ]
        self.norm = Norm(dtype=self.dtype)
        self.head = nn.Dense(self.params_per_site, dtype=dtype, param_dtype=params)
        self.drop = nn.Dropout(self.dropout)

    # The whole-image view, sites in raster order.

    def __call__(self, images: Levels, labels: Labels | None = None) -> SiteParams:
        images, labels = self.check(images, labels)
        batch, order = len(images), self.query_blocks.order
        before = np.zeros_like(order)
        before[order[1:]] = order[:-1]
        levels = jnp.asarray(images).reshape(batch, order.size, self.values_per_site)[:, before]
        tokens = self.embed(levels, jnp.asarray(before % self.sites))
        start = np.arange(order.size) == order[0]
        tokens = jnp.where(start[:, None], jnp.zeros_like(tokens), tokens)
        x = tokens + self.position_table()[None]
        if labels is not None:
            x = x + self.classes(labels)[:, None]
        x = self.drop(x, deterministic=not self.has_rng("dropout"))
        for layer in self.layers:
            x = layer(x)
        params = self.head(self.norm(x))
        height, width, _ = self.image_shape
        per_pixel = self.sites * self.params_per_site
        return self.site_params(params.reshape(batch, height, width, per_pixel), images, labels)

    # The next-site view.

    def blocks(self) -> np.ndarray:
        return self.query_blocks.cells[..., None]

    def init_carry(self, batch: int, labels: Labels | None = None) -> "TransformerCarry":
        token = jnp.zeros((batch, self.features), self.dtype)
        blocks = self.query_blocks
        return TransformerCarry(
            token=token,
            classes=token if labels is None else self.classes(labels),
            remembered=jnp.zeros(blocks.memory.shape[1], bool),
            own_cells=jnp.zeros(blocks.cells.shape[1], bool),
            layers=tuple(layer.attention.init_carry(batch) for layer in self.layers),
        )

    def begin_block(
        self,
        carry: "TransformerCarry",
        block: Integer[Array, ""],
        previous: Integer[Array, "T S B V"],
    ) -> tuple["TransformerCarry", "TransformerContext"]:
        blocks, steps = self.query_blocks, len(previous)
        own_cells = jnp.asarray(blocks.cells >= 0)[block]
        cells = jnp.maximum(jnp.asarray(blocks.cells)[block], 0)
        context = TransformerContext(
            step=jnp.arange(steps),
            block=jnp.broadcast_to(block, (steps,)),
            position=self.position_table()[cells],
            channel=cells % self.sites,
            is_site=own_cells,
        )
        layers = tuple(
            layer.attention.begin_block(layer_carry, block)
            for layer, layer_carry in zip(self.layers, carry.layers, strict=True)
        )
        carry = carry._replace(
            remembered=jnp.asarray(blocks.memory >= 0)[block], own_cells=own_cells, layers=layers
        )
        return carry, context

    def step(
        self, carry: "TransformerCarry", context: "TransformerContext", draw: Draw
    ) -> "TransformerCarry":
        # As above, in this order: the same rounding.
        x = carry.token + context.position[None] + carry.classes
        place = Place(context.step, context.block, carry.remembered, carry.own_cells)
        layers = []
        for layer, layer_carry in zip(self.layers, carry.layers, strict=True):
            layer_carry, x = layer.step(layer_carry, x, place)
            layers.append(layer_carry)
        levels = draw(0, self.site_vector(self.head(self.norm(x))))
        drawn = self.embed(levels[:, None], context.channel[None])[:, 0]
        # What is drawn at a step that pads the block is nobody's.
        token = jnp.where(context.is_site, drawn, carry.token)
        return carry._replace(token=token, layers=tuple(layers))

    # The block view.

    def block(
        self,
        carry: "TransformerCarry",
        context: "TransformerContext",
        levels: Integer[Array, "T S B V"],
    ) -> tuple["TransformerCarry", Float[Array, "T S B P"]]:
        drawn = self.embed(jnp.swapaxes(levels[:, 0], 0, 1), context.channel)
        tokens = jnp.concatenate([carry.token[:, None], drawn], axis=1)
        # Which of them was drawn last when a step begins, and at the end: none of the padding.
        steps = jnp.arange(len(levels))
        last = jax.lax.cummax(jnp.where(context.is_site, steps + 1, 0))
        before = jnp.concatenate([jnp.zeros_like(last[:1]), last[:-1]])
        x = tokens[:, before] + context.position[None] + carry.classes[:, None]
        place = Place(steps[0], context.block[0], carry.remembered, carry.own_cells)
        layers = []
        for layer, layer_carry in zip(self.layers, carry.layers, strict=True):
            layer_carry, x = layer.block(layer_carry, x, place)
            layers.append(layer_carry)
        params = self.site_vector(self.head(self.norm(x)))
        carry = carry._replace(token=tokens[:, last[-1]], layers=tuple(layers))
        return carry, jnp.swapaxes(params, 0, 1)[:, None]

    # Tokens and positions.

    def embed(
        self, levels: Integer[Array, "B N V"], channels: Int[Array, " N"]
    ) -> Float[Array, "B N F"]:
        """Tokens of the levels of sites, given the channel of each, of about unit variance.

        One level: its row of the channel's table, times √d (tensor2tensor); a pixel: a projection.
        """
        if self.values_per_site == 1:
            tokens = levels[..., 0].astype(jnp.int32) + (channels * self.likelihood.levels)[None]
            return self.embedding(tokens) * self.features**0.5
        return self.projection(self.scale(levels))

    def position_table(self) -> Float[Array, "N F"]:
        """The embedding of each site's row and column, sites in raster order."""
        shape = (self.image_shape[0], self.image_shape[1] * self.sites)
        if self.positions == "learned":
            table = self.row_positions[:, None] + self.column_positions[None]
        else:
            of_row, of_column = _sinusoids(*shape, self.features)
            of_row = np.broadcast_to(of_row[:, None], (*shape, of_row.shape[-1]))
            of_column = np.broadcast_to(of_column[None], (*shape, of_column.shape[-1]))
            table = jnp.asarray(np.concatenate([of_row, of_column], axis=-1))
        return table.reshape(math.prod(shape), -1).astype(self.dtype)

    def receptive_field(self) -> Bool[np.ndarray, "H W S H W S"]:
        """`field[r, c, s]` marks the sites that site s of pixel (r, c) depends on, at this depth.

        With local attention some earlier sites are never reached, at any depth.
        """
        blocks = self.query_blocks
        one_layer = blocks.seen().astype(np.float32)
        keys = functools.reduce(
            lambda seen, _: seen @ one_layer > 0, range(self.num_layers - 1), one_layer > 0
        )
        field = np.zeros(keys.shape, bool)
        # The key at a site holds the level of the site before it.
        field[:, blocks.order[:-1]] = keys[:, blocks.order[1:]] > 0
        height, width, _ = self.image_shape
        shape = (height, width, self.sites)
        return field.reshape(*shape, *shape)


class TransformerCarry(NamedTuple):
    """What a step hands to the next."""

    token: Float[Array, "B F"]
    """The embedding of the level drawn last."""
    classes: Float[Array, "B F"]
    """The embedding of the class."""
    remembered: Bool[Array, " slots"]
    """Which cells of the block's memory are in the image."""
    own_cells: Bool[Array, " steps"]
    """Which cells of the block itself are in the image."""
    layers: tuple[AttentionCarry, ...]
    """Keys and values of each layer."""


class TransformerContext(NamedTuple):
    """What a block knows before its steps, or one step's share of it."""

    step: Int[Array, "*T"]
    """The number of the step in its block."""
    block: Int[Array, "*T"]
    """The number of the block, the same for all of its steps."""
    position: Float[Array, "*T F"]
    """Embedding of the site's row and column."""
    channel: Int[Array, "*T"]
    """Whose table of embeddings the level drawn is looked up in."""
    is_site: Bool[Array, "*T"]
    """False where the block is padded."""


class TransformerLayer(nn.Module, kw_only=True):
    """x + attention(norm(x)), then x + feed-forward(norm(x)) with ReLU.

    `out_scale` is the initial variance of what each sublayer adds, against that of its input.
    """

    features: int
    feedforward_features: int
    num_heads: int
    blocks: QueryBlocks
    out_scale: float
    dropout: float
    dtype: Dtype

    def setup(self) -> None:
        dense = functools.partial(nn.Dense, dtype=self.dtype, param_dtype=param_dtype(self.dtype))
        self.norm_attention, self.norm_feedforward = Norm(dtype=self.dtype), Norm(dtype=self.dtype)
        self.attention = CausalAttention(
            features=self.features,
            num_heads=self.num_heads,
            blocks=self.blocks,
            out_scale=self.out_scale,
            dtype=self.dtype,
        )
        self.up = dense(self.feedforward_features)
        init = nn.initializers.variance_scaling(self.out_scale, "fan_in", "truncated_normal")
        self.down = dense(self.features, kernel_init=init)
        self.drop = nn.Dropout(self.dropout)

    def hidden(self, x: Float[Array, "*batch F"]) -> Float[Array, "*batch hidden"]:
        return jax.nn.relu(self.up(self.norm_feedforward(x)))

    # Whole image.

    def __call__(self, x: Float[Array, "B N F"]) -> Float[Array, "B N F"]:
        deterministic = not self.has_rng("dropout")
        x = x + self.drop(self.attention(self.norm_attention(x)), deterministic=deterministic)
        return x + self.drop(self.down(self.hidden(x)), deterministic=deterministic)

    # Next site; the carry is that of the attention.

    def step(
        self, carry: AttentionCarry, x: Float[Array, "B F"], place: Place
    ) -> tuple[AttentionCarry, Float[Array, "B F"]]:
        carry, attended = self.attention.step(carry, self.norm_attention(x), place)
        x = x + attended
        return carry, x + self.down(self.hidden(x))

    # A block.

    def block(
        self, carry: AttentionCarry, x: Float[Array, "B T F"], place: Place
    ) -> tuple[AttentionCarry, Float[Array, "B T F"]]:
        carry, attended = self.attention.block(carry, self.norm_attention(x), place)
        x = x + attended
        return carry, x + self.down(self.hidden(x))


class Norm(nn.Module, kw_only=True):
    """Layer normalisation, at least in float32."""

    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*batch F"]) -> Float[Array, "*batch F"]:
        wide = param_dtype(self.dtype)
        norm = nn.LayerNorm(dtype=wide, param_dtype=wide, force_float32_reductions=False)
        return norm(x.astype(wide)).astype(self.dtype)


@functools.cache
def _sinusoids(num_rows: int, num_columns: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Sines and cosines of geometrically spaced wavelengths, half of the features a dimension."""

    def of(length: int, features: int) -> np.ndarray:
        pairs = -(-features // 2)
        wavelengths = 1e4 ** (np.arange(pairs) / max(pairs, 1))
        angles = np.arange(length)[:, None] / wavelengths
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)[:, :features]

    return of(num_rows, features // 2), of(num_columns, features - features // 2)


def _check_form(name: str, value: object, default: object, least: int) -> None:
    """Checks that a size is of the form that the attention takes: an int, a pair or none."""
    if value is None:
        return
    if isinstance(default, int):
        checks.whole(name, value, least)
    elif isinstance(default, tuple):
        checks.wholes(name, value, least, len(default))
    else:
        raise ValueError(f"{name} is {value}; accepted: nothing, with this attention")
