"""The four methods that draw an image site by site (see `gen_jax.sampling`).

Everything here is by site id: `[B, N, …]`, whatever the order in which a model generates.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.models.shared.protocol import (
    BlockModel,
    Model,
    accelerator_form,
    has_block_view,
    has_blocks,
    has_next_site_view,
    num_phases,
    traits,
)
from gen_jax.typing import Array, Bool, Carry, Context, Float, Int, Labels, Variables

Method: TypeAlias = Literal["scan", "naive", "fixed_point", "block_fixed_point"]
"""How an autoregressive model is sampled; all give the same images for the same key."""


class Canvas(NamedTuple):
    """What is drawn on: uniform numbers of every site, and levels that stand where `known`."""

    noise: Float[Array, "B N R"]
    """In (0, 1): see `site_noise`."""
    given: Int[Array, "B N V"]
    """Of no meaning where they are not known."""
    known: Bool[Array, "B N V"]
    """Which of the levels are given, and stay."""
    completing: bool = True
    """Whether any may be known."""
    tempered: bool = False
    """Whether the temperature is known to be above 0, for a likelihood with `draw_tempered`."""

    def draw(
        self,
        model: Model,
        params: Float[Array, "*batch P"],
        noise: Float[Array, "*batch R"],
        temperature: Float[Array, ""],
        given: Int[Array, "*batch V"],
        known: Bool[Array, "*batch V"],
    ) -> Int[Array, "*batch V"]:
        """One site's levels, or those of many."""
        draw = getattr(model.likelihood, "draw_tempered" if self.tempered else "draw")
        return draw(params, noise, temperature, given, known)

    @property
    def blank(self) -> Int[Array, "B N V"]:
        """The levels before the first site is drawn."""
        return jnp.where(self.known, self.given, 0)


class BlockSites(NamedTuple):
    """What is drawn on of one block."""

    noise: Float[Array, "T S B R"]
    """That of the canvas, by step and site."""
    given: Int[Array, "T S B V"]
    """Levels that stand where they are known."""
    known: Bool[Array, "T S B V"]
    """What pads the block counts as known, too."""


class DrawnBlock(NamedTuple):
    """A block drawn."""

    carry: Carry
    """After the block."""
    levels: Int[Array, "T S B V"]
    """By step and site."""
    passes: Int[Array, ""]
    """Over the block."""


def scan_sites(
    model: BlockModel,
    variables: Variables,
    canvas: Canvas,
    labels: Labels | None,
    temperature: Float[Array, ""],
) -> tuple[Int[Array, "B N V"], Int[Array, ""]]:
    """One nested scan over blocks and steps; the levels by site id, and 1 pass.

    A block of which all is known is read at once, by a model with a block view. A model with
    another form for accelerators is drawn from in that form where the program is compiled for one;
    both are traced.
    """
    rest = variables, canvas, labels, temperature
    other = accelerator_form(model)
    # The more blocks, the more are known whole.
    fewer_known = canvas.completing and len(other.blocks()) < len(model.blocks())
    if other == model or fewer_known:
        return _scan_sites(model, *rest)
    return jax.lax.platform_dependent(
        cpu=lambda: _scan_sites(model, *rest), default=lambda: _scan_sites(other, *rest)
    )


def _scan_sites(
    model: BlockModel,
    variables: Variables,
    canvas: Canvas,
    labels: Labels | None,
    temperature: Float[Array, ""],
) -> tuple[Int[Array, "B N V"], Int[Array, ""]]:
    def step(carry: Carry, inputs: tuple[Context, BlockSites]) -> tuple[Carry, Array]:
        context, sites = inputs
        drawn: list[Array] = []

        def draw(i: int, params: Array) -> Array:
            noise, given, known = sites.noise[i], sites.given[i], sites.known[i]
            drawn.append(canvas.draw(model, params, noise, temperature, given, known))
            return drawn[-1]

        carry = model.apply(variables, carry, context, draw, method="step")
        return carry, jnp.stack(drawn)

    def block(carry: Carry, context: Context, sites: BlockSites, previous: Array) -> DrawnBlock:
        del previous

        def one_by_one() -> tuple[Carry, Array]:
            return jax.lax.scan(step, carry, (context, sites))

        def at_once() -> tuple[Carry, Array]:
            after, _ = model.apply(variables, carry, context, sites.given, method="block")
            return after, sites.given

        if canvas.completing and has_block_view(model):
            after, levels = jax.lax.cond(jnp.all(sites.known), at_once, one_by_one)
        else:
            after, levels = one_by_one()
        return DrawnBlock(after, levels, jnp.ones((), jnp.int32))

    levels, _ = _block_by_block(model, variables, canvas, labels, block)
    return levels, jnp.ones((), jnp.int32)


def block_fixed_point_sites(
    model: BlockModel,
    variables: Variables,
    canvas: Canvas,
    labels: Labels | None,
    temperature: Float[Array, ""],
) -> tuple[Int[Array, "B N V"], Int[Array, ""]]:
    """Block after block, each by passes over it until nothing changes; the levels, and the passes.

    Jacobi inside a block, Gauss-Seidel from block to block (Song et al. 2021, "Accelerating
    Feedforward Computation via Parallel Nonlinear Equation Solving"). The first guess is the block
    before. As many passes as there are blocks are one whole-image pass.
    """

    def block(carry: Carry, context: Context, sites: BlockSites, previous: Array) -> DrawnBlock:
        # As for whole images: after n passes the first n sites of the block are final.
        limit = math.prod(previous.shape[:2]) + 1

        def unfinished(state: tuple[DrawnBlock, Array]) -> Array:
            drawn, changed = state
            return changed & (drawn.passes < limit)

        def sweep(state: tuple[DrawnBlock, Array]) -> tuple[DrawnBlock, Array]:
            drawn, _ = state
            after, params = model.apply(variables, carry, context, drawn.levels, method="block")
            levels = canvas.draw(model, params, sites.noise, temperature, sites.given, sites.known)
            return DrawnBlock(after, levels, drawn.passes + 1), jnp.any(levels != drawn.levels)

        guess = jnp.where(sites.known, sites.given, previous)
        start = DrawnBlock(carry, guess, jnp.zeros((), jnp.int32)), jnp.ones((), bool)
        return jax.lax.while_loop(unfinished, sweep, start)[0]

    return _block_by_block(model, variables, canvas, labels, block)


def _block_by_block(
    model: BlockModel,
    variables: Variables,
    canvas: Canvas,
    labels: Labels | None,
    draw_block: Callable[[Carry, Context, BlockSites, Array], DrawnBlock],
) -> tuple[Int[Array, "B N V"], Int[Array, ""]]:
    """A scan over blocks, each by `draw_block`; the levels by site id, and the passes, summed."""
    blocks = model.blocks()
    batch, num_sites, values = canvas.given.shape

    def in_order(x: Array) -> Array:  # [B, N, …] -> [blocks, steps, sites, B, …]
        return jnp.moveaxis(x[:, np.maximum(blocks, 0)], 0, 3)

    def block(
        state: tuple[Carry, Array], inputs: tuple[Array, BlockSites], phase: int
    ) -> tuple[tuple[Carry, Array], tuple[Array, Array]]:
        (carry, previous), (index, sites) = state, inputs
        of_phase = {} if phases == 1 else {"phase": phase}
        carry, context = model.apply(
            variables, carry, index, previous, method="begin_block", **of_phase
        )
        carry, levels, passes = draw_block(carry, context, sites, previous)
        return (carry, levels), (levels, passes)

    def one_of_each_phase(
        state: tuple[Carry, Array], inputs: tuple[Array, BlockSites]
    ) -> tuple[tuple[Carry, Array], tuple[Array, Array]]:
        results = []
        for phase in range(phases):  # unrolled: what a phase computes is decided before it runs
            state, result = block(state, jax.tree.map(lambda x, i=phase: x[i], inputs), phase)
            results.append(result)
        return state, jax.tree.map(lambda *x: jnp.stack(x), *results)

    phases = num_phases(model)
    if len(blocks) % phases:
        raise ValueError(
            f"blocks() of {type(model).__name__} gives {len(blocks)} blocks; accepted, with "
            f"{phases} phases: multiples of {phases}"
        )
    sites = BlockSites(*map(in_order, (canvas.noise, canvas.given, canvas.known)))
    if (blocks < 0).any():  # padding is nobody's, and nothing waits for it
        sites = sites._replace(known=sites.known | (blocks < 0)[..., None, None])
    carry = model.apply(variables, batch, labels, method="init_carry")
    previous = jnp.zeros((*blocks.shape[1:], batch, values), jnp.int32)
    inputs = (jnp.arange(len(blocks)), sites)
    inputs = jax.tree.map(lambda x: x.reshape(-1, phases, *x.shape[1:]), inputs)
    _, (levels, passes) = jax.lax.scan(one_of_each_phase, (carry, previous), inputs)
    position = np.empty(num_sites, np.int64)
    position[generation_order(model)] = np.flatnonzero(blocks.reshape(-1) >= 0)
    levels = levels.reshape(-1, batch, values)[position]
    return jnp.swapaxes(levels, 0, 1), jnp.sum(passes)


def naive_sites(
    model: Model,
    variables: Variables,
    canvas: Canvas,
    labels: Labels | None,
    temperature: Float[Array, ""],
    num_sites: int | None = None,
) -> tuple[Int[Array, "B N V"], Int[Array, ""]]:
    """A whole-image pass for every site (or the first `num_sites`); the levels, and the passes."""

    def draw_site(levels: Array, site: Array) -> tuple[Array, None]:
        params = _whole_image_params(model, variables, levels, labels)
        params, noise, given, known = (
            jax.lax.dynamic_index_in_dim(x, site, 1, False)
            for x in (params, canvas.noise, canvas.given, canvas.known)
        )
        drawn = canvas.draw(model, params, noise, temperature, given, known)
        return jax.lax.dynamic_update_index_in_dim(levels, drawn, site, 1), None

    order = generation_order(model)[:num_sites]
    levels, _ = jax.lax.scan(draw_site, canvas.blank, jnp.asarray(order))
    return levels, jnp.asarray(len(order), jnp.int32)


def fixed_point_sites(
    model: Model,
    variables: Variables,
    canvas: Canvas,
    labels: Labels | None,
    temperature: Float[Array, ""],
) -> tuple[Int[Array, "B N V"], Int[Array, ""]]:
    """Whole-image passes until nothing changes, N + 1 at most; the levels, and the passes."""
    # After n passes the first n sites in generation order are final, so the N-th pass finds
    # the image and the next one, at the latest, sees that nothing changed.
    limit = canvas.given.shape[1] + 1

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        _, changed, passes = state
        return changed & (passes < limit)

    def sweep(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        levels, _, passes = state
        params = _whole_image_params(model, variables, levels, labels)
        drawn = canvas.draw(model, params, canvas.noise, temperature, canvas.given, canvas.known)
        return drawn, jnp.any(drawn != levels), passes + 1

    start = (canvas.blank, jnp.ones((), bool), jnp.zeros((), jnp.int32))
    levels, _, passes = jax.lax.while_loop(unfinished, sweep, start)
    return levels, passes


METHODS: Mapping[Method, Callable[..., tuple[Array, Array]]] = {
    "scan": scan_sites,
    "naive": naive_sites,
    "fixed_point": fixed_point_sites,
    "block_fixed_point": block_fixed_point_sites,
}


def methods_of(model: Model) -> tuple[Method, ...]:
    """Those by which an autoregressive model can be drawn from."""
    there = {"scan": has_next_site_view(model), "block_fixed_point": has_block_view(model)}
    return tuple(method for method in METHODS if there.get(method, True))


def generation_order(model: Model) -> np.ndarray:
    """Site ids in generation order, int `[N]`; raster order for a model without `blocks`.

    ValueError for blocks that leave out a site, or hold one twice.
    """
    height, width, _ = traits(model).image_shape
    all_sites = np.arange(height * width * traits(model).sites)
    if not has_blocks(model):
        return all_sites
    ids = model.blocks().reshape(-1)
    ids = ids[ids >= 0]
    if not np.array_equal(np.sort(ids), all_sites):
        raise ValueError(
            f"blocks() of {type(model).__name__} holds {len(ids)} site ids, {len(np.unique(ids))} "
            f"of them different; accepted: each of 0 … {len(all_sites) - 1} once"
        )
    return ids


def _whole_image_params(
    model: Model, variables: Variables, levels: Int[Array, "B N V"], labels: Labels | None
) -> Float[Array, "B N P"]:
    images = levels.reshape(levels.shape[0], *traits(model).image_shape)
    params = model.apply(variables, images, labels)
    return params.reshape(*levels.shape[:2], -1)
