"""What drawing and completing share: their options, and images chunk by chunk on all devices."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from gen_jax import sampling, training
from gen_jax.models.shared.protocol import Model, has_blocks
from gen_jax.precision import Precision
from gen_jax.scripts import cli, runs
from gen_jax.typing import Json


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawOptions(runs.RunOptions):
    """How images are drawn."""

    temperature: float = 1.0
    """1 draws from the model, 0 takes the most probable level of every site."""
    method: sampling.Method = "scan"
    """How images are drawn: all methods draw the same.
    scan suits any number of images, block_fixed_point a few at a time."""
    precision: Precision = "default"
    """How exactly a GPU or TPU multiplies matrices; on a CPU both are the same.
    default: as JAX does, which is faster. highest: with all digits of float32."""
    chunk_size: int = 256
    """Images drawn at once: the fewer, the less memory."""


class Drawn(NamedTuple):
    """What was drawn, chunk by chunk."""

    images: np.ndarray
    """All images, as levels."""
    passes: tuple[int, ...]
    """How many passes each chunk took."""


def draw(model: Model, request: sampling.Request, options: DrawOptions, what: str) -> Drawn:
    """All images of the request, in chunks on all devices, with a progress bar."""
    count = len(request.ids)
    mesh = training.make_mesh() if jax.device_count() > 1 else None
    chunk_size = min(options.chunk_size, count)
    if mesh is not None:
        chunk_size = cli.round_up(chunk_size, mesh.size)
    chunks = sampling.run_in_chunks(
        model, request, chunk_size, method=options.method, precision=options.precision, mesh=mesh
    )
    drawn = list(cli.track(chunks, -(-count // chunk_size), what))
    images = np.concatenate([chunk.images for chunk in drawn])
    return Drawn(images, tuple(chunk.passes for chunk in drawn))


def say_passes(model: Model, drawn: Drawn, method: sampling.Method) -> None:
    """Says how many passes a method took whose passes are not one; a range over the chunks."""
    if method == "scan":
        return
    sites, low, high = sampling.generation_order(model).size, min(drawn.passes), max(drawn.passes)
    number = f"{low}" if low == high else f"{low} to {high}"
    over = f"the whole image, of {sites} sites"
    if method == "block_fixed_point" and has_blocks(model):
        over = f"a block, of which an image of {sites} sites has {len(model.blocks())}"
    chunk = f" for each of {len(drawn.passes)} chunks" if len(drawn.passes) > 1 else ""
    cli.say(f"{method} took {number} passes over {over}{chunk}")


def record(options: DrawOptions, run: runs.Run) -> Json:
    """What a file of images says of how they were drawn."""
    return {
        "class_names": run.class_names,
        "seed": options.seed,
        "temperature": options.temperature,
        "method": options.method,
        "precision": options.precision,
        "step": run.step,
    }
