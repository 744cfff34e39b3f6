"""PixelRNN passes against plain transcriptions: `python -m experiments.benchmarks.pixel_rnn`.

The transcriptions follow the paper, with the model's own parameters and departures: input-to-state
of the whole image, then one scan a layer and direction, over rows or over the columns of a skewed
map. Both are timed in turn, compilation apart; the last column says that they compute the same.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import timing
from gen_jax.scripts import cli
from gen_jax.scripts.presets import find

_LAYOUT = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    presets: cli.Presets = ("row-lstm-mnist", "diagonal-bilstm-mnist")
    """Whose models, with random parameters; of one channel, without classes."""
    batch_size: int = 64
    """Images a pass."""
    repeats: int = 7
    """Timed runs of each; medians are reported."""


def main(arguments: Sequence[str]) -> None:
    """Parses, measures, prints a table."""
    options = cli.parse(Options, "python -m experiments.benchmarks.pixel_rnn", arguments)
    cli.check_counts(batch_size=options.batch_size, repeats=options.repeats)
    table = Table(title=f"batches of {options.batch_size}, medians of {options.repeats}")
    for column in ("preset", "pass, s", "plain, s", "plain / pass", "largest difference"):
        table.add_column(column, justify="left" if column == "preset" else "right")
    cases = {name: find(name).model for name in options.presets}
    for name, model in cases.items():
        if type(model).__name__ not in PLAIN or model.sites > 1 or model.num_classes is not None:
            raise ValueError(f"preset is {name!r}; accepted: those of {' and '.join(PLAIN)}, grey")
    for name, model in cli.track(cases.items(), len(cases), "measuring"):
        plain = PLAIN[type(model).__name__]
        images = np.random.RandomState(0).randint(
            model.likelihood.levels, size=(options.batch_size, *model.image_shape), dtype=np.int32
        )
        variables = jax.jit(model.init)(jax.random.key(0), images[:1])
        ours, _ = timing.compile_call(model.apply, variables, images)
        theirs, _ = timing.compile_call(
            lambda v, x, model=model, plain=plain: plain(model, v["params"], x), variables, images
        )
        difference = float(jnp.max(jnp.abs(ours()[..., 0, :] - theirs())))
        times = timing.in_turn(ours, theirs, repeats=options.repeats)
        table.add_row(
            name,
            f"{np.median(times[:, 0]):.4f}",
            f"{np.median(times[:, 1]):.4f}",
            f"{np.median(times[:, 1] / times[:, 0]):.2f}",
            f"{difference:.1e}",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def plain_row_lstm(model: Any, params: Any, images: Any) -> Any:
    """Row LSTM (van den Oord et al. 2016, §3.1), `[B, H, W, P]`."""
    x, side = _first_conv(model, params, images), model.kernel_size // 2
    zeros = jnp.zeros((x.shape[0], x.shape[2], model.rounded_features))
    for n in range(model.num_layers):
        p = params[f"layers_{n}"]
        kernel, bias = p["gates"]["kernel_input"][None], p["gates"]["bias"]
        gates = _conv(x, kernel, ((0, 0), (side, 0))) + bias

        def step(carry: Any, gates: Any, kernel: Any = p["gates"]["kernel_state"]) -> Any:
            state, cell = carry
            above = _conv(state[:, None], kernel[None], ((0, 0), (side, side)))[:, 0]
            carry = _lstm(gates + above, cell)
            return carry, carry[0]

        _, states = jax.lax.scan(step, (zeros, zeros), jnp.moveaxis(gates, 1, 0))
        x = x + _dense(jnp.moveaxis(states, 0, 1), p["out"])
    return _head(params, x)


def plain_diagonal_bilstm(model: Any, params: Any, images: Any) -> Any:
    """Diagonal BiLSTM (van den Oord et al. 2016, §3.2), `[B, H, W, P]`."""
    x = _first_conv(model, params, images)
    for n in range(model.num_layers):
        p = params[f"layers_{n}"]
        read = x + model.scale(images) @ params["own_pixel"]["kernel"] if n == 0 else x
        left = _along_diagonals(x, p["left_to_right"])
        right = _along_diagonals(read[:, :, ::-1], p["right_to_left"])[:, :, ::-1]
        right = jnp.pad(right[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
        x = x + _dense(left + right, p["out"])
    return _head(params, x)


PLAIN: dict[str, Callable[..., Any]] = {
    "RowLSTM": plain_row_lstm,
    "DiagonalBiLSTM": plain_diagonal_bilstm,
}


def _along_diagonals(x: Any, p: Any) -> Any:
    batch, height, width, _ = x.shape
    gates = x @ p["kernel_input"][0] + p["bias"]
    rows = [jnp.pad(gates[:, r], ((0, 0), (r, height - 1 - r), (0, 0))) for r in range(height)]
    skewed = jnp.stack(rows)  # [H, B, W + H − 1, F]
    features = p["kernel_state"].shape[1]
    zeros = jnp.zeros((height, batch, features))

    inside = np.arange(width + height - 1)[:, None] - np.arange(height)
    inside = jnp.asarray((inside >= 0) & (inside < width), x.dtype)[..., None, None]

    def step(carry: Any, inputs: Any) -> Any:
        (state, cell), (gates, inside) = carry, inputs
        above = jnp.pad(state[:-1], ((1, 0), (0, 0), (0, 0)))
        gates = gates + state @ p["kernel_state"][0] + above @ p["kernel_state"][1]
        carry = [x * inside for x in _lstm(gates, cell)]  # outside the image there is nothing
        return carry, carry[0]

    _, states = jax.lax.scan(step, [zeros, zeros], (jnp.moveaxis(skewed, 2, 0), inside))
    rows = [states[r : r + width, r] for r in range(height)]  # [W, B, F] each
    return jnp.transpose(jnp.stack(rows), (2, 0, 1, 3))


def _lstm(gates: Any, cell: Any) -> tuple[Any, Any]:
    o, f, i, g = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def _first_conv(model: Any, params: Any, images: Any) -> Any:
    p, reach = params["first"]["conv"], model.first_kernel_size // 2
    row = jnp.pad(p["kernel"], ((0, reach), (0, 0), (0, 0))).at[reach].set(0)  # mask A
    kernel = jnp.concatenate([p["kernel_above"], row[None]])
    return _conv(model.scale(images), kernel, ((reach, 0), (reach, reach))) + p["bias"]


def _head(params: Any, x: Any) -> Any:
    for n in range(len(params["head"])):
        x = _dense(jax.nn.relu(x), params["head"][f"convs_{n}"])
    return x


def _dense(x: Any, p: Any) -> Any:
    return x @ p["kernel"][0] + p["bias"]


def _conv(x: Any, kernel: Any, padding: Any) -> Any:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_LAYOUT)


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
