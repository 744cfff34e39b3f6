"""Causal multi-head self-attention over query blocks, with its two views (Parmar et al. 2018).

    attention(q, K, V) = softmax(q Kᵀ / √d_h + mask) V

Whole image: one query block after another attends to its memory and, causally, to itself, so that
the scores held at once are those of a block, and memory grows in proportion to the image. Next
site: keys and values of the memory are gathered once a block; each step writes its own beside them
and attends once. `gen_jax.layers.query_blocks` says who sees whom.

Keys and values are `[B, heads, cells, d_h]`: a step reads the cells of an image and a head as one
run of memory, and writes one short one.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.layers.convolution import param_dtype
from gen_jax.layers.query_blocks import QueryBlocks
from gen_jax.typing import Array, Bool, Carry, Dtype, Float, Integer

# Keys, values, and which of them are there (None: all).
Memory = tuple[Float[Array, "B heads _ D"], Float[Array, "B heads _ D"], Array | None]


def attend(
    queries: Float[Array, "B heads Q D"], memories: Sequence[Memory]
) -> Float[Array, "B heads Q D"]:
    """Attention over several runs of keys under one softmax; masks broadcast to `[Q, K]`.

    Scores and softmax are at least in float32.
    """
    memories = [memory for memory in memories if memory[0].shape[2]]
    dtype = jnp.float64 if queries.dtype == jnp.float64 else jnp.float32
    queries = queries * queries.shape[-1] ** -0.5
    scores = []
    for keys, _, mask in memories:
        run = jnp.einsum("bhqd,bhkd->bhqk", queries, keys, preferred_element_type=dtype)
        if mask is not None:
            run = jnp.where(mask.reshape((1,) * (4 - mask.ndim) + mask.shape), run, -jnp.inf)
        scores.append(run)
    # No softmax is over nothing: a block's first cell is in the image, and all of it attend to it.
    joined = jnp.concatenate(scores, axis=-1)
    weights = jnp.exp(joined - jax.lax.stop_gradient(jnp.max(joined, axis=-1, keepdims=True)))
    lengths = [run.shape[-1] for run in scores]
    parts = [
        jnp.einsum("bhqk,bhkd->bhqd", run.astype(queries.dtype), values)
        for run, (_, values, _) in zip(
            jnp.split(weights, np.cumsum(lengths)[:-1], axis=-1), memories, strict=True
        )
    ]
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return functools.reduce(jnp.add, parts) / total.astype(queries.dtype)


class CausalAttention(nn.Module):
    """Multi-head self-attention: each cell sees its block's memory, and its block up to itself."""

    features: int
    num_heads: int
    blocks: QueryBlocks
    out_scale: float
    dtype: Dtype

    def setup(self) -> None:
        dense = functools.partial(nn.Dense, dtype=self.dtype, param_dtype=param_dtype(self.dtype))
        self.qkv = dense(3 * self.features)
        init = nn.initializers.variance_scaling(self.out_scale, "fan_in", "truncated_normal")
        self.out = dense(self.features, kernel_init=init)

    # Whole image, cells in raster order.

    def __call__(self, x: Float[Array, "B N F"]) -> Float[Array, "B N F"]:
        batch, cells, _ = x.shape
        qkv = self.qkv(x).reshape(batch, cells, 3, self.num_heads, -1)
        queries, keys, values = jnp.moveaxis(qkv, (2, 3), (0, 2))
        blocks = self.blocks
        view = _attend_to_prefixes if blocks.attention == "full" else _attend_to_rectangles
        attended = view(blocks, queries, keys, values)
        return self.out(jnp.swapaxes(attended, 1, 2).reshape(batch, cells, -1))

    # Next site. The carry: keys and values of the block so far and of its memory; for local_2d
    # those of all cells that later blocks remember too, the rows above and the row of blocks.

    def init_carry(self, batch: int) -> Carry:
        def zeros(*cells: int) -> tuple[Array, Array]:
            shape = (batch, self.num_heads, *cells, self.features // self.num_heads)
            return jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype)

        blocks = self.blocks
        steps, slots = blocks.cells.shape[1], blocks.memory.shape[1]
        if blocks.attention == "full":  # a run of memory for each block that another one follows
            return zeros(steps), [zeros(steps) for _ in range(len(blocks.cells) - 1)], None
        if blocks.attention == "local_1d":
            return zeros(steps), [zeros(slots)], None
        (_, sides), (above, _) = blocks.padding, blocks.reach
        width = sum(sides) + blocks.grid[1]
        return zeros(steps), [zeros(slots)], zeros(above + blocks.size[0], width)

    def begin_block(self, carry: Carry, block: Integer[Array, ""]) -> Carry:
        """The block just finished becomes memory, as far as `block` remembers it."""
        own, memories, cache = carry
        if self.blocks.attention == "full":
            memories = [
                jax.tree.map(functools.partial(jnp.where, block == n + 1), own, memory)
                for n, memory in enumerate(memories)
            ]
        elif self.blocks.attention == "local_1d":
            slots = self.blocks.memory.shape[1]  # none if there is but one block
            memories = [jax.tree.map(lambda x: x[:, :, :slots], own)]
        else:
            moved = [_flanges(self.blocks, block, *pair) for pair in zip(own, cache, strict=True)]
            cache, memory = zip(*moved, strict=True)
            memories = [memory]
        return own, memories, cache

    def step(
        self,
        carry: Carry,
        x: Float[Array, "B F"],
        t: Integer[Array, ""],
        block: Integer[Array, ""],
        remembered: Bool[Array, " slots"],
        own_cells: Bool[Array, " steps"],
    ) -> tuple[Carry, Float[Array, "B F"]]:
        """Step `t` of `block`: `remembered` and `own_cells` mark cells that are in the image."""
        own, memories, cache = carry
        batch = x.shape[0]
        query, key, value = jnp.moveaxis(self.qkv(x).reshape(batch, 3, self.num_heads, 1, -1), 1, 0)
        corner = (0, 0, t, 0)
        keys, values = (
            jax.lax.dynamic_update_slice(past, now, corner)
            for past, now in zip(own, (key, value), strict=True)
        )
        so_far = (keys, values, (jnp.arange(keys.shape[2]) <= t) & own_cells)
        if self.blocks.attention != "full":
            attended = attend(query, [(*memory, remembered) for memory in memories] + [so_far])
        elif jax.default_backend() == "cpu":
            # Only what exists is read: a branch for each number of complete blocks.
            def branch(count: int):
                return lambda: attend(query, [(*m, None) for m in memories[:count]] + [so_far])

            branches = [branch(count) for count in range(len(memories) + 1)]
            attended = jax.lax.switch(block, branches)
        else:  # an accelerator would wait for the host at every branch
            complete = [(*m, (block > n)[None]) for n, m in enumerate(memories)]
            attended = attend(query, [*complete, so_far])
        return ((keys, values), memories, cache), self.out(attended.reshape(batch, -1))


def _attend_to_rectangles(
    blocks: QueryBlocks,
    queries: Float[Array, "B heads N D"],
    keys: Float[Array, "B heads N D"],
    values: Float[Array, "B heads N D"],
) -> Float[Array, "B heads N D"]:
    """A query block at a time, each to its flanges and itself.

    Scores are computed again in the backward pass, so that none are kept.
    """
    (height, width), (above, aside) = blocks.size, blocks.reach
    batch, heads, _, depth = queries.shape

    def padded(x: Array) -> Array:
        grid = x.reshape(batch, heads, *blocks.grid, depth)
        return jnp.pad(grid, ((0, 0), (0, 0), *blocks.padding, (0, 0)))

    queries, keys, values = padded(queries), padded(keys), padded(values)
    causal = jnp.tri(height * width, dtype=bool)

    @jax.checkpoint
    def block(inputs: tuple[Array, Array, Array]) -> Array:
        corner, remembered, own_cells = inputs

        def cut(x: Array, row: int, column: int, rows: int, columns: int) -> Array:
            start = (0, 0, corner[0] + row, corner[1] + column, 0)
            size = (batch, heads, rows, columns, depth)
            return jax.lax.dynamic_slice(x, start, size).reshape(batch, heads, -1, depth)

        def memory(x: Array) -> Array:
            flanges = (cut(x, 0, 0, above, width + 2 * aside), cut(x, above, 0, height, aside))
            return jnp.concatenate(flanges, axis=2)

        own = functools.partial(cut, row=above, column=aside, rows=height, columns=width)
        past = (memory(keys), memory(values), remembered[None])
        return attend(own(queries), [past, (own(keys), own(values), causal & own_cells[None])])

    inputs = (blocks.corners, blocks.memory >= 0, blocks.cells >= 0)
    attended = jax.lax.map(block, jax.tree.map(jnp.asarray, inputs))
    attended = attended.reshape(*blocks.counts, batch, heads, height, width, depth)
    rows, columns = (n * size for n, size in zip(blocks.counts, blocks.size, strict=True))
    grid = jnp.transpose(attended, (2, 3, 0, 4, 1, 5, 6)).reshape(
        batch, heads, rows, columns, depth
    )
    grid = grid[:, :, : blocks.grid[0], : blocks.grid[1]]
    return grid.reshape(batch, heads, -1, depth)


def _attend_to_prefixes(
    blocks: QueryBlocks,
    queries: Float[Array, "B heads N D"],
    keys: Float[Array, "B heads N D"],
    values: Float[Array, "B heads N D"],
) -> Float[Array, "B heads N D"]:
    """A query block at a time, each to all cells up to itself: half of a square of scores."""
    cells, steps = queries.shape[2], blocks.size[1]
    attended = []
    for start in range(0, cells, steps):
        stop = min(start + steps, cells)
        past = (keys[:, :, :start], values[:, :, :start], None)
        own = (keys[:, :, start:stop], values[:, :, start:stop])
        causal = jnp.tri(stop - start, dtype=bool)
        memories = [past, (*own, causal)] if start else [(*own, causal)]
        attended.append(jax.checkpoint(attend)(queries[:, :, start:stop], memories))
    return jnp.concatenate(attended, axis=2)


def _flanges(
    blocks: QueryBlocks,
    block: Integer[Array, ""],
    own: Float[Array, "B heads steps D"],
    cache: Float[Array, "B heads rows columns D"],
) -> tuple[Float[Array, "B heads rows columns D"], Float[Array, "B heads slots D"]]:
    """The cache with the block before `block` in it, and the memory of `block` out of it.

    The cache holds the rows above, as many as a flange is high, and the current row of blocks.
    """
    (height, width), (above, aside) = blocks.size, blocks.reach
    batch, heads, _, depth = own.shape
    columns = jnp.asarray(blocks.corners[:, 1])
    finished = own.reshape(batch, heads, height, width, depth)
    start = (0, 0, above, aside + columns[block - 1], 0)
    # Before block 0 the cache is empty, and the zeros of its own carry are written.
    cache = jax.lax.dynamic_update_slice(cache, finished, start)
    next_row = (block % blocks.counts[1] == 0) & (block > 0)
    above_now = jnp.where(next_row, cache[:, :, height:], cache[:, :, :above])
    cache = jnp.concatenate([above_now, cache[:, :, above:]], axis=2)

    def cut(row: int, rows: int, columns_wide: int) -> Array:
        start = (0, 0, row, columns[block], 0)
        size = (batch, heads, rows, columns_wide, depth)
        return jax.lax.dynamic_slice(cache, start, size).reshape(batch, heads, -1, depth)

    memory = [cut(0, above, width + 2 * aside), cut(above, height, aside)]
    return cache, jnp.concatenate(memory, axis=2)
