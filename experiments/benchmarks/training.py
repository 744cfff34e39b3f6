"""How fast is training? `python -m experiments.benchmarks.training [PRESET …] [--batch-sizes 64]`.

For each preset's model: seconds of one whole-image pass and of one training step (gradient, AdamW,
EMA) on random images, images/s, and the rate of their matmuls and convolutions against that of a
2048 x 2048 matmul timed in turn, in the same process; compiled as gen_jax.training compiles them.
What a step computes again in its backward pass counts as often as it is done. Compilation is timed
apart.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import timing
from gen_jax import models, training
from gen_jax.files import write_atomically
from gen_jax.precision import Precision, matmul_precision
from gen_jax.scripts import cli, results, runs
from gen_jax.scripts.presets import find
from gen_jax.xla import compiler_options


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    presets: cli.Presets = ("gated-pixelcnn-mnist", "row-lstm-mnist", "diagonal-bilstm-mnist")
    """Whose models, with random parameters."""
    batch_sizes: tuple[int, ...] = (64,)
    """Images a step."""
    repeats: int = 7
    """Timed runs of each; medians are reported."""
    precision: Precision = "default"
    """How exactly a GPU or TPU multiplies matrices, in passes, steps and the matmul beside them."""
    output: str = "runs/benchmark-training"
    """Folder for the table as JSON."""


def main(arguments: Sequence[str]) -> None:
    """Parses, measures, prints a table, writes training.json."""
    options = cli.parse(Options, "python -m experiments.benchmarks.training", arguments)
    cli.check_counts(batch_sizes=options.batch_sizes, repeats=options.repeats)
    cases = [(name, find(name), batch) for name in options.presets for batch in options.batch_sizes]
    with matmul_precision(options.precision):
        measured = [
            {"preset": name, **_measure(preset, batch, options)}
            for name, preset, batch in cli.track(cases, len(cases), "measuring")
        ]
    _report(options, measured)


def _measure(experiment: Any, batch: int, options: Options) -> dict[str, Any]:
    model, objective = experiment.model, experiment.objective
    config = experiment.training.optimizer
    optimizer = training.make_optimizer(config, num_steps=1000)
    images = np.random.RandomState(0).randint(
        model.likelihood.levels, size=(batch, *model.image_shape), dtype=np.int32
    )
    model = model.adapted(model.image_shape, batch)
    inputs = {"images": images, "indices": np.arange(batch, dtype=np.int32)}
    labels = runs.labels_for(model, batch, None)
    if labels is not None:
        inputs["labels"] = np.asarray(labels, np.int32)

    create = functools.partial(training.init_state, model, optimizer)
    state = jax.jit(create)(jax.random.key(0))

    def one_pass(variables: Any, inputs: Any) -> Any:
        return model.apply(variables, inputs["images"], inputs.get("labels"))

    def step(state: Any, inputs: Any, key: Any) -> Any:
        return training.train_step(
            state,
            inputs,
            key,
            model=model,
            objective=objective,
            optimizer=optimizer,
            ema_decay=config.ema_decay,
        )

    matmul, matmul_flops = timing.large_matmul()
    row: dict[str, Any] = {"model": models.to_dict(model), "batch": batch}
    platform = jax.default_backend()
    variables, key = {"params": state.params}, jax.random.key(1)
    for name, function, arguments, purpose in (
        ("pass", one_pass, (variables, inputs), "evaluation"),
        ("step", step, (state, inputs, key), "training"),
    ):
        chosen = compiler_options(purpose, platform)
        flops = timing.count_flops(function, *arguments)
        call, compile_seconds = timing.compile_call(function, *arguments, options=chosen)
        for warm_up in (call, matmul):
            timing.seconds(warm_up)
        times = timing.in_turn(call, matmul, repeats=options.repeats)
        rate, matmul_rate = flops / times[:, 0], matmul_flops / times[:, 1]
        row[name] = {
            "seconds": float(np.median(times[:, 0])),
            "images_per_second": float(batch / np.median(times[:, 0])),
            "gflop": flops / 1e9,
            "gflop_per_second": float(np.median(rate)) / 1e9,
            "matmul_gflop_per_second": float(np.median(matmul_rate)) / 1e9,
            "over_matmul": float(np.median(rate / matmul_rate)),
            "compile_seconds": compile_seconds,
        }
    return row


def _report(options: Options, measured: list[dict[str, Any]]) -> None:
    environment = results.environment()
    how = f"precision {options.precision}, medians of {options.repeats}"
    table = Table(title=f"{environment['device']}, {how}")
    for column in (
        "preset", "batch", "", "s", "images/s", "GFLOP", "GFLOP/s", "matmul", "/ matmul",
        "compile, s",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column in ("preset", "") else "right")
    for row in measured:
        for kind in ("pass", "step"):
            result = row[kind]
            table.add_row(
                row["preset"],
                str(row["batch"]),
                kind,
                f"{result['seconds']:.4f}",
                f"{result['images_per_second']:.1f}",
                f"{result['gflop']:.1f}",
                f"{result['gflop_per_second']:.1f}",
                f"{result['matmul_gflop_per_second']:.1f}",
                f"{result['over_matmul']:.2f}",
                f"{result['compile_seconds']:.1f}",
            )
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "training.json"
    result = {
        "repeats": options.repeats,
        "precision": options.precision,
        **environment,
        "rows": measured,
    }
    write_atomically(path, json.dumps(result, indent=2) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
