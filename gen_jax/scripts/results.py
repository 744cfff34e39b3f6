"""The files that the scripts write: where they go, whole or not at all, and what they say."""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

from gen_jax import __version__
from gen_jax.files import replacing, write_atomically
from gen_jax.scripts.cli import Run, RunOptions, say
from gen_jax.training.workdir import Workdir


def output_folder(options: RunOptions, run: Run) -> Path:
    """Where results go: to be asked before anything is computed. ValueError if nothing can."""
    # The same paths are refused as for a run: empty, remote, of nobody.
    folder = run.workdir.path if options.output is None else Workdir(options.output).path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"nothing can be written in {folder} ({error.strerror}); name a folder with --output"
        ) from error
    return folder


def save_arrays(path: Path, **arrays: Any) -> Path:
    """A .npz, whole or not at all: an older one of that name stays until the new one is there."""
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **{k: v for k, v in arrays.items() if v is not None})
    return path


def save_json(path: Path, result: Mapping[str, Any]) -> Path:
    """A JSON file, whole or not at all. ValueError for NaN, which JSON does not have."""
    write_atomically(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
    return path


def picture(save: Callable[..., Path], *arguments: Any, **options: Any) -> Path | None:
    """The path that `save` wrote, said; what goes wrong with a picture ends nothing."""
    try:
        path = save(*arguments, **options)
    except (OSError, ValueError, MemoryError) as error:
        print(f"warning: a picture is missing: {' '.join(str(error).split())}", file=sys.stderr)
        return None
    say(f"wrote {path}")
    return path


def environment() -> dict[str, Any]:
    """Device and versions, for results."""
    devices = jax.devices()
    return {
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "gen_jax": __version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "python": sys.version.split()[0],
    }
