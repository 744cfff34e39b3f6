"""The whole story in about two minutes: train on digits, score, sample, complete, draw pictures."""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from experiments import cli, complete, evaluate, sample, train
from experiments.presets import find


@dataclasses.dataclass(frozen=True)
class Options:
    """Run it again to look at the finished run; delete the folder to start over."""

    workdir: str = "demo"
    """Folder for the run and its pictures."""
    preset: str = "gated-pixelcnn-digits"
    """What to train."""
    steps: int | None = None
    """Training steps; by default the preset's."""


def main(arguments: Sequence[str]) -> None:
    """Trains, scores on the whole test split, samples and completes."""
    options = cli.parse(Options, "demo", arguments)
    preset = find(options.preset)
    start = time.perf_counter()
    settings = preset.training
    if options.steps is not None:
        settings = dataclasses.replace(settings, steps=options.steps)
    result = train.train(
        train.Options(
            preset.model, preset.data, settings, preset.objective, workdir=options.workdir
        )
    )
    cli.stop(result)
    scored = evaluate.evaluate(evaluate.Options(options.workdir))
    sample.sample(sample.Options(options.workdir, num_images=100))
    complete.complete(complete.Options(options.workdir))
    print(f"\ntest: {scored['bits_per_dim']:.2f} bits/dim")
    print(f"pictures, after {time.perf_counter() - start:.0f} s:")
    for name, what in (
        ("samples.png", "images drawn from the model"),
        ("samples.gif", "how they appear, pixel by pixel"),
        ("completions.png", "test images: original, upper half, six completions"),
        ("surprise-test.png", "where test images surprise the model, in bits a pixel"),
        ("loss.png", "training and validation loss"),
    ):
        print(f"  {Path(options.workdir) / name!s:32} {what}")


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
