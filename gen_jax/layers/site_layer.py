"""The next-site view of a stack of layers, one pixel at a time.

The sites of a pixel are drawn one after the other, each through all layers, so that nothing is
computed twice. Between the sites a layer keeps what it needs in a state: functions take it and
return the next one. The loop over the sites is unrolled, so a state may grow from site to site.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from gen_jax.layers.convolution import Head
from gen_jax.typing import Array, Carry, Context, Float, Int, Labels, PyTree

CarryT = TypeVar("CarryT")
ContextT = TypeVar("ContextT", contravariant=True)
RowContextT = TypeVar("RowContextT")
StateT = TypeVar("StateT")

Groups = tuple[Float[Array, "B G"], ...]
"""Features of one pixel by channel group: those of the sites so far."""


@runtime_checkable
class SiteLayer(Protocol[CarryT, ContextT, StateT]):
    """A layer of channel groups, one for each site of a pixel: what `draw_pixel` calls."""

    def open_pixel(self, carry: CarryT, context: ContextT, column: Int[Array, ""]) -> StateT:
        """The state before the first site.

        `carry` is what earlier pixels say, `context` the pixel's share of its row's.
        """
        ...

    def site(
        self, s: int, state: StateT, x: Float[Array, "B G"]
    ) -> tuple[StateT, Float[Array, "B G2"]]:
        """The output group of site s, from its input group."""
        ...

    def close_pixel(self, state: StateT) -> CarryT:
        """The carry after the last site, or what a model makes it of."""
        ...


@runtime_checkable
class ImageLayer(SiteLayer[CarryT, ContextT, StateT], Protocol[CarryT, ContextT, StateT]):
    """One that reads the image itself, through mask A: sites that are yet to be drawn."""

    def site(
        self, s: int, state: StateT, x: Float[Array, "B G"] | None
    ) -> tuple[StateT, Float[Array, "B G2"]]:
        """The output group of site s, from the image's at site s − 1; None before the first."""
        ...

    def close_pixel(self, state: StateT, x: Float[Array, "B G"] | None = None) -> CarryT:
        """Likewise; `x` is the last site's own group."""
        ...


@runtime_checkable
class RowLayer(SiteLayer[CarryT, RowContextT, StateT], Protocol[CarryT, RowContextT, StateT]):
    """One whose carry is all that it remembers of the rows above, and its context a row's."""

    def init_carry(self, width: int, batch: int, labels: Labels | None) -> CarryT:
        """The carry above the first row of an image `width` pixels wide."""
        ...

    def begin_row(self, carry: CarryT) -> tuple[CarryT, RowContextT]:
        """What does not depend on the row's own pixels, of which the carry is cleared."""
        ...


@runtime_checkable
class ReadingLayer(RowLayer[CarryT, RowContextT, StateT], Protocol[CarryT, RowContextT, StateT]):
    """One that can read a whole row at once, too: what `read_row` calls."""

    def read_row(
        self, carry: CarryT, context: RowContextT, x: Float[Array, "W B I"]
    ) -> tuple[CarryT, Float[Array, "W B O"]]:
        """The carry after the row, good for the next one to begin from, and the row's output."""
        ...


def draw_pixel(
    image_layer: ImageLayer[Carry, Context, PyTree],
    layers: Sequence[SiteLayer[Carry, Context, PyTree]],
    head: Head,
    carries: Sequence[Carry],
    contexts: Sequence[Context],
    column: Int[Array, ""],
    draw: Callable[[int, Float[Array, "B P"]], Float[Array, "B G"]],
) -> tuple[Carry, ...]:
    """Each layer's `close_pixel`, once `draw(s, params)` has given every site in real numbers.

    Carries and contexts are those of `image_layer`, and of the other layers.
    """
    image_state, *states = (
        layer.open_pixel(carry, context, column)
        for layer, carry, context in zip((image_layer, *layers), carries, contexts, strict=True)
    )
    head_state = head.open_pixel()
    drawn: Float[Array, "B G"] | None = None
    for s in range(head.groups):
        image_state, x = image_layer.site(s, image_state, drawn)
        for n, layer in enumerate(layers):
            states[n], x = layer.site(s, states[n], x)
        head_state, params = head.site(s, head_state, x)
        drawn = draw(s, params)
    return (
        image_layer.close_pixel(image_state, drawn),
        *(layer.close_pixel(state) for layer, state in zip(layers, states, strict=True)),
    )


def read_row(
    layers: Sequence[ReadingLayer[Carry, Context, PyTree]],
    head: Head,
    carries: Sequence[Carry],
    contexts: Sequence[Context],
    x: Float[Array, "W B C"],
) -> tuple[tuple[Carry, ...], Float[Array, "W B SP"]]:
    """What `draw_pixel` does pixel by pixel, for a whole row that is given in real numbers."""
    next_carries = []
    for layer, carry, context in zip(layers, carries, contexts, strict=True):
        carry, x = layer.read_row(carry, context, x)
        next_carries.append(carry)
    return tuple(next_carries), head(x[None])[0]


def grown(groups: Groups, x: Float[Array, "B G"] | None) -> Groups:
    """The groups of a pixel so far, and one more."""
    return groups if x is None else (*groups, x)
