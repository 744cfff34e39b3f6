"""The whole story in about two minutes: train on digits, score, sample, complete, draw pictures."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from gen_jax.models.shared.protocol import has_code
from gen_jax.scripts import cli, complete, evaluate, reconstruct, sample, train
from gen_jax.scripts.presets import find


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
    options = cli.parse(Options, "gen_jax demo", arguments)
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
    latent = has_code(preset.model)
    pictures = {"loss.png": "training and validation loss"}
    if not latent or preset.model.prior is not None:
        sample.sample(sample.Options(options.workdir, num_images=100))
        pictures["samples.png"] = "images drawn from the model"
    if latent:
        reconstruct.reconstruct(reconstruct.Options(options.workdir))
        pictures |= {
            "reconstructions-test.png": "test images, by the encoder and by inverting the decoder",
            "interpolations.png": "on the line between two codes",
        }
    else:
        complete.complete(complete.Options(options.workdir))
        pictures |= {
            "samples.gif": "how they appear, pixel by pixel",
            "completions.png": "test images: original, upper half, six completions",
            "surprise-test.png": "where test images surprise the model, in bits a pixel",
        }
    cli.say(f"\ntest: {scored['bits_per_dim']:.2f} bits/dim")
    cli.say(f"pictures, after {time.perf_counter() - start:.0f} s:")
    for name, what in pictures.items():
        cli.say(f"  {Path(options.workdir) / name!s:32} {what}")
