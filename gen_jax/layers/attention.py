"""Causal multi-head self-attention over query blocks, with its views (Parmar et al. 2018).

    attention(q, K, V) = softmax(q Kᵀ / √d_h + mask) V

Whole image: one query block after another attends to its memory and, causally, to itself, so that
the scores held at once are those of a block, and memory grows in proportion to the image; the
backward pass computes them again. (For full attention, whose blocks are in no loop, XLA's CPU
backend may find that it has them already, and keep them.)
Next site: keys and values of the memory are gathered once a block; each step writes its own beside
them and attends once. There they are `[B, heads, cells, d_h]`: a step reads the cells of an image
and a head as one run of memory, and writes one short one.
A block at once: all queries of a block attend together, to its memory and causally to itself.
`gen_jax.layers.query_blocks` says who sees whom.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from gen_jax.layers.convolution import param_dtype
from gen_jax.layers.query_blocks import QueryBlocks
from gen_jax.typing import Array, Bool, Dtype, Float, Int, Integer


class Cached(NamedTuple):
    """Keys and values of a run of cells, or of a rectangle of them."""

    keys: Float[Array, "B heads *cells D"]
    """What a query is compared with."""
    values: Float[Array, "B heads *cells D"]
    """What is read where its key fits the query."""


class AttentionCarry(NamedTuple):
    """Keys and values that are still to be read."""

    own: Cached
    """Those of the block being drawn, one run of its steps."""
    memories: tuple[Cached, ...]
    """What the block remembers. full: a run for each block that another one follows; else one."""
    grid: Cached | None
    """local_2d: those of the rows above and of the current row of blocks, as they lie."""


class Place(NamedTuple):
    """Where a step is, and what is around it."""

    step: Int[Array, ""]
    """Its number in its block."""
    block: Int[Array, ""]
    """The number of its block, in generation order."""
    remembered: Bool[Array, " slots"]
    """Which cells of the block's memory are in the image."""
    own_cells: Bool[Array, " steps"]
    """Which cells of the block itself are in the image."""


class Memory(NamedTuple):
    """A run of keys and values, and which of them are there (None: all)."""

    cached: Cached
    """Perhaps of no cells."""
    there: Bool[Array, "..."] | None = None
    """Broadcasts to `[Q, cells]`."""


def attend(
    queries: Float[Array, "B heads Q D"], memories: Sequence[Memory]
) -> Float[Array, "B heads Q D"]:
    """Attention over several runs of keys under one softmax; masks broadcast to `[Q, cells]`.

    Scores and softmax are at least in float32.
    """
    memories = [memory for memory in memories if memory.cached.keys.shape[2]]
    dtype = jnp.float64 if queries.dtype == jnp.float64 else jnp.float32
    queries = queries * queries.shape[-1] ** -0.5
    scores = []
    for cached, there in memories:
        run = jnp.einsum("bhqd,bhkd->bhqk", queries, cached.keys, preferred_element_type=dtype)
        if there is not None:
            # Added, not selected: XLA's CPU backend makes no vectors of a maximum over a choice.
            unseen = jnp.where(there, 0, -jnp.inf).astype(dtype)
            run = run + unseen.reshape((1,) * (4 - there.ndim) + there.shape)
        scores.append(run)
    # No softmax is over nothing: a block's first cell is in the image, and all of it attend to it.
    joined = jnp.concatenate(scores, axis=-1)
    weights = jnp.exp(joined - jax.lax.stop_gradient(jnp.max(joined, axis=-1, keepdims=True)))
    lengths = [run.shape[-1] for run in scores]
    parts = [
        jnp.einsum("bhqk,bhkd->bhqd", run.astype(queries.dtype), memory.cached.values)
        for run, memory in zip(
            jnp.split(weights, np.cumsum(lengths)[:-1], axis=-1), memories, strict=True
        )
    ]
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return functools.reduce(jnp.add, parts) / total.astype(queries.dtype)


def attend_many(
    queries: Float[Array, "B heads Q D"],
    keys: Float[Array, "B heads D cells"],
    values: Float[Array, "B heads D cells"],
    mask: Bool[Array, "Q cells"],
) -> Float[Array, "B heads Q D"]:
    """Attention of many queries to one run of keys, where the mask says so.

    Every query sees a cell. Scores and softmax are at least in float32. Cells are last in keys and
    values: then the gradient needs no transpose of the weights, which are the largest array by far.
    """
    dtype = jnp.float64 if queries.dtype == jnp.float64 else jnp.float32
    queries = queries * queries.shape[-1] ** -0.5
    scores = jnp.einsum("bhqd,bhdk->bhqk", queries, keys, preferred_element_type=dtype)
    # Added, not selected: XLA's CPU backend makes it one program with the matmul.
    scores = scores + jnp.where(mask, 0, -jnp.inf).astype(dtype)[None, None]
    most = jnp.max(jax.lax.stop_gradient(scores), axis=-1, keepdims=True)
    weights = jnp.exp(scores - checkpoint_name(most, "attended"))
    total = checkpoint_name(jnp.sum(weights, axis=-1, keepdims=True), "attended")
    attended = jnp.einsum("bhqk,bhdk->bhqd", weights.astype(queries.dtype), values)
    return checkpoint_name(attended, "attended") / total.astype(queries.dtype)


class CausalAttention(nn.Module, kw_only=True):
    """Multi-head self-attention: each cell sees its block's memory, and its block up to itself."""

    features: int
    """Width of its input and output, a multiple of `num_heads`."""
    num_heads: int
    """Number of heads, each of features // num_heads."""
    blocks: QueryBlocks
    """Who sees whom."""
    out_scale: float
    """Initial variance of its output, against that of its input."""
    dtype: Dtype

    def setup(self) -> None:
        dense = functools.partial(nn.Dense, dtype=self.dtype, param_dtype=param_dtype(self.dtype))
        self.qkv = dense(3 * self.features)
        init = nn.initializers.variance_scaling(self.out_scale, "fan_in", "truncated_normal")
        self.out = dense(self.features, kernel_init=init)

    # Whole image, cells in raster order.

    def __call__(self, x: Float[Array, "B N F"]) -> Float[Array, "B N F"]:
        batch, cells, _ = x.shape
        depth = self.features // self.num_heads
        qkv = self.qkv(x).reshape(batch, cells, 3, self.num_heads, depth)
        queries = jnp.swapaxes(qkv[:, :, 0], 1, 2)
        keys, values = jnp.moveaxis(qkv[:, :, 1:], (2, 1), (0, 4))
        blocks = self.blocks
        view = _attend_to_prefixes if blocks.attention == "full" else _attend_to_rectangles
        attended = view(blocks, queries, keys, values)
        return self.out(jnp.swapaxes(attended, 1, 2).reshape(batch, cells, self.features))

    # Next site.

    def init_carry(self, batch: int) -> AttentionCarry:
        def zeros(*cells: int) -> Cached:
            shape = (batch, self.num_heads, *cells, self.features // self.num_heads)
            return Cached(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))

        blocks = self.blocks
        steps, slots = blocks.cells.shape[1], blocks.memory.shape[1]
        if blocks.attention == "full":
            memories = tuple(zeros(steps) for _ in range(len(blocks.cells) - 1))
            return AttentionCarry(zeros(steps), memories, None)
        if blocks.attention == "local_1d":
            return AttentionCarry(zeros(steps), (zeros(slots),), None)
        (_, sides), (above, _) = blocks.padding, blocks.reach
        columns = sum(sides) + blocks.grid[1]
        return AttentionCarry(zeros(steps), (zeros(slots),), zeros(above + blocks.size[0], columns))

    def begin_block(self, carry: AttentionCarry, block: Integer[Array, ""]) -> AttentionCarry:
        """The block just finished becomes memory, as far as `block` remembers it."""
        own = carry.own
        if self.blocks.attention == "full":
            memories = (
                jax.tree.map(functools.partial(jnp.where, block == n + 1), own, memory)
                for n, memory in enumerate(carry.memories)
            )
            return carry._replace(memories=tuple(memories))
        if carry.grid is None:
            slots = self.blocks.memory.shape[1]  # none if there is but one block
            return carry._replace(memories=(jax.tree.map(lambda x: x[:, :, :slots], own),))
        keys, seen_keys = _flanges(self.blocks, block, own.keys, carry.grid.keys)
        values, seen_values = _flanges(self.blocks, block, own.values, carry.grid.values)
        memory = Cached(seen_keys, seen_values)
        return AttentionCarry(own, (memory,), Cached(keys, values))

    def step(
        self, carry: AttentionCarry, x: Float[Array, "B F"], place: Place
    ) -> tuple[AttentionCarry, Float[Array, "B F"]]:
        batch = x.shape[0]
        query, key, value = jnp.moveaxis(self.qkv(x).reshape(batch, 3, self.num_heads, 1, -1), 1, 0)
        corner = (0, 0, place.step, 0)
        own = Cached(
            *(
                jax.lax.dynamic_update_slice(past, now, corner)
                for past, now in zip(carry.own, (key, value), strict=True)
            )
        )
        steps = jnp.arange(own.keys.shape[2])
        so_far = Memory(own, (steps <= place.step) & place.own_cells)
        attended = self._attend_to_block(query, carry.memories, so_far, place)
        return carry._replace(own=own), self.out(attended.reshape(batch, -1))

    def block(
        self, carry: AttentionCarry, x: Float[Array, "B T F"], place: Place
    ) -> tuple[AttentionCarry, Float[Array, "B T F"]]:
        """`step` for all steps of a block at once; the place's own step is not looked at."""
        batch, steps, _ = x.shape
        qkv = self.qkv(x).reshape(batch, steps, 3, self.num_heads, -1)
        queries, *own = jnp.transpose(qkv, (2, 0, 3, 1, 4))
        own = Cached(*own)
        so_far = Memory(own, jnp.tri(steps, dtype=bool) & place.own_cells[None])
        attended = self._attend_to_block(queries, carry.memories, so_far, place)
        attended = jnp.swapaxes(attended, 1, 2).reshape(batch, steps, -1)
        return carry._replace(own=own), self.out(attended)

    def _attend_to_block(
        self,
        queries: Float[Array, "B heads Q D"],
        memories: tuple[Cached, ...],
        so_far: Memory,
        place: Place,
    ) -> Float[Array, "B heads Q D"]:
        if self.blocks.attention == "full":
            return self._attend_to_complete(queries, memories, so_far, place.block)
        remembered = [Memory(memory, place.remembered) for memory in memories]
        return attend(queries, [*remembered, so_far])

    def _attend_to_complete(
        self,
        queries: Float[Array, "B heads Q D"],
        memories: tuple[Cached, ...],
        so_far: Memory,
        block: Int[Array, ""],
    ) -> Float[Array, "B heads Q D"]:
        """Full attention: to the blocks before `block`, and to its own so far."""

        def read_what_exists() -> Array:  # a branch for each number of complete blocks
            def branch(count: int) -> Callable[[], Array]:
                return lambda: attend(queries, [*map(Memory, memories[:count]), so_far])

            return jax.lax.switch(block, [branch(n) for n in range(len(memories) + 1)])

        def read_all() -> Array:  # an accelerator would wait for the host at every branch
            complete = [Memory(m, (block > n)[None]) for n, m in enumerate(memories)]
            return attend(queries, [*complete, so_far])

        return jax.lax.platform_dependent(cpu=read_what_exists, default=read_all)


def _attend_to_rectangles(
    blocks: QueryBlocks,
    queries: Float[Array, "B heads N D"],
    keys: Float[Array, "B heads D N"],
    values: Float[Array, "B heads D N"],
) -> Float[Array, "B heads N D"]:
    """A query block at a time, one row of blocks after another, each to its flanges and itself."""
    (height, width), (above, aside) = blocks.size, blocks.reach
    (down, across), (batch, heads, _, depth) = blocks.counts, queries.shape
    causal = jnp.tri(height * width, dtype=bool)

    def cut(x: Float[Array, "B heads D rows columns"]) -> Float[Array, "B heads D cells"]:
        sides = x[..., above:, :aside], x[..., above:, aside : aside + width]
        runs = [jax.lax.collapse(run, 3) for run in (x[..., :above, :], *sides)]
        return jnp.concatenate(runs, axis=-1)

    def block(inputs: tuple[Array, ...]) -> Array:
        queries, keys, values, remembered, own_cells = inputs
        past = jnp.broadcast_to(remembered[None], (len(causal), len(remembered)))
        mask = jnp.concatenate([past, causal & own_cells[None]], axis=1)
        return attend_many(queries, cut(keys), cut(values), mask)

    def row(inputs: tuple[Array, ...]) -> Array:
        # Windows along the columns are kept no more than scores are.
        queries, keys, values, *masks = inputs
        beside = (aside, aside if above else 0)
        keys, values = (_windows(x, 4, width, beside) for x in (keys, values))
        return jax.lax.map(_scores_again(block), (queries, keys, values, *masks))

    def grid(x: Array) -> Array:
        return x.reshape(*x.shape[:3], *blocks.grid)

    keys, values = (_windows(grid(x), 3, height, (above, 0)) for x in (keys, values))
    below = ((0, down * height - blocks.grid[0]), (0, across * width - blocks.grid[1]))
    queries = queries.reshape(batch, heads, *blocks.grid, depth)
    queries = jnp.pad(queries, ((0, 0), (0, 0), *below, (0, 0)))
    queries = queries.reshape(batch, heads, down, height, across, width, depth)
    queries = jnp.transpose(queries, (2, 4, 0, 1, 3, 5, 6))
    queries = queries.reshape(down, across, batch, heads, height * width, depth)
    masks = (
        jnp.asarray(cells >= 0).reshape(down, across, -1) for cells in (blocks.memory, blocks.cells)
    )
    attended = jax.lax.map(_scores_again(row), (queries, keys, values, *masks))
    attended = attended.reshape(down, across, batch, heads, height, width, depth)
    attended = jnp.transpose(attended, (2, 3, 0, 4, 1, 5, 6))
    attended = attended.reshape(batch, heads, down * height, across * width, depth)
    attended = attended[:, :, : blocks.grid[0], : blocks.grid[1]]
    return attended.reshape(batch, heads, blocks.grid[0] * blocks.grid[1], depth)


def _attend_to_prefixes(
    blocks: QueryBlocks,
    queries: Float[Array, "B heads N D"],
    keys: Float[Array, "B heads D N"],
    values: Float[Array, "B heads D N"],
) -> Float[Array, "B heads N D"]:
    """A query block at a time, each to all cells up to itself: half of a square of scores."""
    cells, steps = queries.shape[2], blocks.size[1]
    attended = []
    for start in range(0, cells, steps):
        stop = min(start + steps, cells)
        causal = jnp.tri(stop - start, stop, start, dtype=bool)
        attended.append(
            _scores_again(attend_many)(
                queries[:, :, start:stop], keys[..., :stop], values[..., :stop], causal
            )
        )
    return jnp.concatenate(attended, axis=2)


def _scores_again(function: Callable[..., Array]) -> Callable[..., Array]:
    """Keeps no scores for the backward pass, which computes them again.

    Of each query its highest score, the sum of its weights and what it attended to are kept.
    """
    policy = jax.checkpoint_policies.save_only_these_names("attended")
    return jax.checkpoint(function, policy=policy)


def _windows(x: Array, axis: int, size: int, margins: tuple[int, int]) -> Array:
    """Overlapping windows along an axis, `[count, …]`: runs of `size` with what lies beside them.

    Zeros lie outside. Made of slices, so that its gradient is a sum of a few shifted arrays; all
    windows together are larger than `x` by the ratio of their length to `size`.
    """
    length, (before, after) = x.shape[axis], margins
    count, leading, trailing = -(-length // size), -(-before // size), -(-after // size)
    padding = [(0, 0)] * x.ndim
    padding[axis] = (leading * size, (count + trailing) * size - length)
    runs = jnp.pad(x, padding)
    runs = runs.reshape(*x.shape[:axis], leading + count + trailing, size, *x.shape[axis + 1 :])
    runs = jnp.moveaxis(runs, axis, 0)
    beside = [runs[n : n + count] for n in range(leading + 1 + trailing)]
    windows = jnp.concatenate(beside, axis=axis + 1)
    start = leading * size - before
    return jax.lax.slice_in_dim(windows, start, start + before + size + after, axis=axis + 1)


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

    def cut(row: int, num_rows: int, num_columns: int) -> Array:
        start = (0, 0, row, columns[block], 0)
        size = (batch, heads, num_rows, num_columns, depth)
        return jax.lax.dynamic_slice(cache, start, size).reshape(batch, heads, -1, depth)

    memory = [cut(0, above, width + 2 * aside), cut(above, height, aside)]
    return cache, jnp.concatenate(memory, axis=2)
