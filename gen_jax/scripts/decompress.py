"""Give back what was compressed: `gen_jax decompress WORKDIR FILE -o IMAGES.npz`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from gen_jax import checks, codec
from gen_jax.scripts import cli, results, runs


@dataclasses.dataclass(frozen=True)
class Options:
    """Which file, and where its images go."""

    workdir: runs.RunFolder
    """Folder of the run, or the name of the shipped model, that compressed it."""
    file: cli.File
    """What `gen_jax compress` wrote."""
    _: dataclasses.KW_ONLY
    step: str = "best"
    """Which checkpoint: best (by validation), last, or the number of a step."""
    output: cli.OutputFile = None
    """The .npz to write: images, as levels, and labels and names of classes, if there are."""
    force: bool = False
    """Try a file of another version of JAX, platform or machine: the checksums still decide."""
    overwrite: bool = False
    """Write over a file that is there."""


def main(arguments: Sequence[str]) -> None:
    """Parses, decompresses, and writes the images."""
    decompress(cli.parse(Options, "gen_jax decompress", arguments))


def decompress(options: Options) -> Path:
    """The path of the .npz."""
    path = results.new_file(options.output, options.overwrite)
    if path.suffix != ".npz":
        raise ValueError(f"output is {str(path)!r}; accepted: a .npz")
    content = _read(options.file)
    run = runs.open_run(options.workdir, options.step)
    try:
        with cli.progress() as bar:
            task = bar.add_task("decompressing", total=None)
            images, labels = codec.decompress(
                run.model,
                run.variables,
                content,
                force=options.force,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except ValueError as error:
        raise ValueError(f"{options.file}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    results.save_arrays(path, images=images, labels=labels, class_names=run.class_names)
    cli.say(f"{len(images)} images, their levels bit for bit as they were; wrote {path}")
    return path


def _read(file: str) -> bytes:
    """The content. ValueError for what was not compressed, or is damaged: before a run is opened,
    and of a large file that is none before it is read."""
    try:
        with checks.expanded("file", file).open("rb") as stream:
            content = stream.read(64)
            if content.startswith(codec.MAGIC):
                content += stream.read()
        codec.parse(content)
    except OSError as error:
        raise checks.unreadable(file, error) from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return content
