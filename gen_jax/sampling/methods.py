"""The three methods that draw an image site by site (see `gen_jax.sampling`).

Everything here is by site id: `[B, N, …]`, whatever the order in which a model generates.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.models.shared.protocol import BlockModel, Model, has_blocks, traits
from gen_jax.typing import Array, Bool, Carry, Context, Float, Int, Labels, Variables

Method: TypeAlias = Literal["scan", "naive", "fixed_point"]


class Canvas(NamedTuple):
    """What is drawn on: uniform numbers of every site, and levels that stand where `known`."""

    noise: Float[Array, "B N R"]
    given: Int[Array, "B N V"]
    known: Bool[Array, "B N V"]

    @property
    def blank(self) -> Int[Array, "B N V"]:
        """The levels before the first site is drawn."""
        return jnp.where(self.known, self.given, 0)


def scan_sites(
    model: BlockModel,
    variables: Variables,
    canvas: Canvas,
    labels: Labels | None,
    temperature: Float[Array, ""],
) -> tuple[Int[Array, "B N V"], Int[Array, ""]]:
    """One nested scan over blocks and steps; the levels by site id, and 1 pass."""
    blocks = model.blocks()
    batch, num_sites, values = canvas.given.shape

    def in_order(x: Array) -> Array:  # [B, N, …] -> [blocks, steps, sites, B, …]
        return jnp.moveaxis(x[:, np.maximum(blocks, 0)], 0, 3)

    def step(carry: Carry, inputs: tuple[Context, Array, Array, Array]) -> tuple[Carry, Array]:
        context, noise, given, known = inputs
        drawn: list[Array] = []

        def draw(i: int, params: Array) -> Array:
            drawn.append(model.likelihood.draw(params, noise[i], temperature, given[i], known[i]))
            return drawn[-1]

        carry = model.apply(variables, carry, context, draw, method="step")
        return carry, jnp.stack(drawn)

    def block(
        carry: tuple[Carry, Array], inputs: tuple[Array, Array, Array, Array]
    ) -> tuple[tuple[Carry, Array], Array]:
        model_carry, previous = carry
        index, noise, given, known = inputs
        model_carry, context = model.apply(
            variables, model_carry, index, previous, method="begin_block"
        )
        model_carry, levels = jax.lax.scan(step, model_carry, (context, noise, given, known))
        return (model_carry, levels), levels

    carry = model.apply(variables, batch, labels, method="init_carry")
    previous = jnp.zeros((*blocks.shape[1:], batch, values), jnp.int32)
    noise, given, known = map(in_order, canvas)
    inputs = (jnp.arange(len(blocks)), noise, given, known)
    _, levels = jax.lax.scan(block, (carry, previous), inputs)
    position = np.empty(num_sites, np.int64)
    position[generation_order(model)] = np.flatnonzero(blocks.reshape(-1) >= 0)
    levels = levels.reshape(-1, batch, values)[position]
    return jnp.swapaxes(levels, 0, 1), jnp.ones((), jnp.int32)


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
            jax.lax.dynamic_index_in_dim(x, site, 1, False) for x in (params, *canvas)
        )
        drawn = model.likelihood.draw(params, noise, temperature, given, known)
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
        drawn = model.likelihood.draw(params, canvas.noise, temperature, canvas.given, canvas.known)
        return drawn, jnp.any(drawn != levels), passes + 1

    start = (canvas.blank, jnp.ones((), bool), jnp.zeros((), jnp.int32))
    levels, _, passes = jax.lax.while_loop(unfinished, sweep, start)
    return levels, passes


METHODS: Mapping[Method, Callable[..., tuple[Array, Array]]] = {
    "scan": scan_sites,
    "naive": naive_sites,
    "fixed_point": fixed_point_sites,
}


def generation_order(model: Model) -> np.ndarray:
    """Site ids in generation order, int [N]; raster order for a model that says nothing."""
    if has_blocks(model):
        ids = model.blocks().reshape(-1)
        return ids[ids >= 0]
    height, width, _ = traits(model).image_shape
    return np.arange(height * width * traits(model).sites)


def _whole_image_params(
    model: Model, variables: Variables, levels: Int[Array, "B N V"], labels: Labels | None
) -> Float[Array, "B N P"]:
    images = levels.reshape(levels.shape[0], *traits(model).image_shape)
    params = model.apply(variables, images, labels)
    return params.reshape(*levels.shape[:2], -1)
