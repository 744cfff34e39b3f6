"""The files that the scripts write: where they go, whole or not at all, and what they say."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec

import flax
import jax
import numpy as np

from gen_jax import __version__, checks, data
from gen_jax.data import DataConfig
from gen_jax.files import replacing, write_atomically
from gen_jax.scripts.cli import say
from gen_jax.scripts.runs import ImageOptions, Images, Run, RunOptions
from gen_jax.training.workdir import Workdir
from gen_jax.typing import ArrayLike, Json

P = ParamSpec("P")


def output_folder(options: RunOptions, run: Run) -> Path:
    """Where results go: to be asked before anything is computed. ValueError if nothing can."""
    # The same paths are refused as for a run: empty, remote, of nobody.
    folder = run.workdir.path if options.output is None else Workdir(options.output).path
    if isinstance(options, ImageOptions):
        refuse_among_images("output", folder, options.data or run.data_config)
    if run.name is not None and options.output is None:
        say(f"{run.name} is a shipped model: results go to {folder}")
    return writable(folder)


def writable(folder: Path) -> Path:
    """The folder, made if need be. ValueError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"nothing can be written in {folder} ({error.strerror}); accepted: a folder by --output"
        ) from error
    return folder


def new_file(output: str | None, overwrite: bool) -> Path:
    """The path of a file to be written: to be asked before anything is computed.

    ValueError if none is named, if there is one and it may not be written over, and if nothing can
    be written there. Its folder is not made yet, so that a mistake found later leaves none.
    """
    if not output:
        raise ValueError(f"output is {output!r}; accepted: a file to write, -o FILE")
    path = checks.expanded("output", output)
    if path.is_dir():
        raise ValueError(f"output is {output!r}, a folder; accepted: a file")
    if path.exists() and not overwrite:
        raise ValueError(f"{output} is there; accepted: another --output, or --overwrite")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"output is {output!r}, but {folder} is a file; accepted: another path")
    writable(folder)
    return path


def refuse_among_images(name: str, path: Path, config: DataConfig | None) -> None:
    """ValueError for a path inside the folder of images, as pictures there would be read as images
    of it, and for the file of images itself."""
    if config is None:
        return
    try:
        place = Path(data.resolved(config).name)
    except ValueError:  # it is not there: reading says so
        return
    if not place.is_absolute():  # no path
        return
    if place.is_dir() and path.resolve().is_relative_to(place.resolve()):
        raise ValueError(
            f"{name} is {str(path)!r}, inside the folder of images {str(place)!r}; accepted: a "
            "place elsewhere, as pictures are written there that would be read as images"
        )
    if path.resolve() == place.resolve():
        raise ValueError(f"{name} is {str(path)!r}, the images themselves; accepted: another file")


def name_for(folder: Path, what: str, images: Images) -> str:
    """What files of a result are called after: the images' name.

    With a hash of their data's content where the folder holds that result of other data, from
    elsewhere, which are called the same.
    """
    try:
        there = json.loads((folder / f"{what}-{images.name}.json").read_text(encoding="utf-8"))
        other = there["fingerprint"] != images.fingerprint
        other &= os.path.abspath(there["data"]) != os.path.abspath(images.dataset)
    except (OSError, ValueError, KeyError, TypeError):  # none, or of an older version
        other = False
    return f"{images.name}-{images.fingerprint[:8]}" if other else images.name


def save_arrays(path: Path, **arrays: ArrayLike | Sequence[str] | None) -> Path:
    """A .npz, whole or not at all: an older one of that name stays until the new one is there."""
    present = {key: np.asarray(value) for key, value in arrays.items() if value is not None}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **present)  # pyright: ignore[reportArgumentType]
    return path


def save_json(path: Path, result: Mapping[str, object]) -> Path:
    """A JSON file, whole or not at all. ValueError for NaN, which JSON does not have."""
    write_atomically(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
    return path


def picture(save: Callable[P, Path], *arguments: P.args, **options: P.kwargs) -> Path | None:
    """The path that `save` wrote, said; what goes wrong with a picture ends nothing."""
    try:
        path = save(*arguments, **options)
    except (OSError, ValueError, MemoryError) as error:
        print(f"warning: a picture is missing: {' '.join(str(error).split())}", file=sys.stderr)
        return None
    say(f"wrote {path}")
    return path


def environment() -> Json:
    """Device and versions, for results."""
    devices = jax.devices()
    return {
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "gen_jax": __version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "python": sys.version.split()[0],
    }
