"""What drawing and completing share: their options, and images chunk by chunk on all devices."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np

from gen_jax import sampling, training
from gen_jax.scripts import cli, runs
from gen_jax.typing import Json


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawOptions(runs.RunOptions):
    """How images are drawn."""

    temperature: float = 1.0
    """1 draws from the model, 0 takes the most probable level of every site."""
    method: sampling.Method = "scan"
    """How: all draw the same images. scan suits any number, block_fixed_point a few at a time."""
    chunk_size: int = 256
    """Images drawn at once: the fewer, the less memory."""


def draw(
    in_chunks: Callable[..., Iterator[np.ndarray]], count: int, options: DrawOptions, what: str
) -> np.ndarray:
    """All `count` images of one of the `…_in_chunks` of `gen_jax.sampling`, its images given."""
    mesh = training.make_mesh() if jax.device_count() > 1 else None
    chunk_size = min(options.chunk_size, count)
    if mesh is not None:
        chunk_size = cli.round_up(chunk_size, mesh.size)
    chunks = in_chunks(
        chunk_size=chunk_size, temperature=options.temperature, method=options.method, mesh=mesh
    )
    return np.concatenate(list(cli.track(chunks, -(-count // chunk_size), what)))


def record(options: DrawOptions, run: runs.Run) -> Json:
    """What a file of images says of how they were drawn."""
    return {
        "class_names": run.class_names,
        "seed": options.seed,
        "temperature": options.temperature,
        "method": options.method,
        "step": run.step,
    }
