"""A run's folder: run.json says what the run is, and whether another one may continue it.

run.json         the model, the data, the settings and the versions (written atomically)
checkpoints/     one folder a step
damaged/         checkpoints that could not be read, moved aside
metrics.jsonl    one JSON object a line
tensorboard/     the same numbers as TensorBoard events
"""

import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Record: TypeAlias = Mapping[str, Any]

# Settings that may change from one start to the next: they leave the parameters as they are.
_FREE = (
    "versions",
    "data.config.data_dir",  # the fingerprint tells whether it holds the same images
    "data.class_names",
    "training.eval_every",
    "training.eval_batch_size",
    "training.log_every",
    "training.sample_every",
    "training.keep",
)
# Settings that make it another run, but one that can go on from this one's state.
_RESUMABLE = ("training.steps", "training.accumulate", "training.optimizer")


class Workdir:
    """The paths of a run, absolute (Orbax asks for that)."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path).expanduser().absolute()
        self.run = self.path / "run.json"
        self.checkpoints = self.path / "checkpoints"
        self.damaged = self.path / "damaged"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"

    def read(self) -> dict[str, Any]:
        """What run.json says. Raises ValueError if there is no run here, or it is damaged."""
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is not a folder; accepted: the folder of a trained run")
        if not self.run.is_file():
            raise ValueError(f"{self.path} holds no run: there is no run.json in it")
        try:
            record = json.loads(self.run.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{self.run} is damaged: {error}") from error
        if not isinstance(record, dict) or not {"model", "data", "training"} <= record.keys():
            raise ValueError(f"{self.run} is damaged: it has no model, data and training")
        return record

    def claim(self, record: Record, *, resume: bool = False, overwrite: bool = False) -> None:
        """Makes this the folder of the run that `record` describes, and writes run.json.

        A folder that holds the same run is taken as it is, and one of a run that never came
        to its first checkpoint is begun anew. One that holds another is refused
        with a ValueError that names the first difference, unless `overwrite`, which deletes
        that run, or `resume` where only the number of steps, the optimiser or the gradient
        accumulation differ.
        """
        if resume and overwrite:
            raise ValueError("resume and overwrite exclude each other: choose one")
        record = json.loads(json.dumps(record))
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; accepted: a folder, or a path to make one at")
        if self.run.exists():
            if overwrite or not self._has_checkpoints():
                self._clear()
            else:
                self._compare(self.read(), record, resume)
        for path in (self.checkpoints, self.metrics, self.tensorboard):
            if path.exists() and not self.run.exists():
                raise ValueError(
                    f"{self.path} holds {path.name} but no run.json to say of what; "
                    "choose another folder"
                )
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.run, json.dumps(record, indent=2) + "\n")

    def _has_checkpoints(self) -> bool:
        # Names of saves that were cut short are not numbers.
        return self.checkpoints.is_dir() and any(
            entry.name.isdigit() for entry in self.checkpoints.iterdir()
        )

    def _compare(self, old: Record, new: Record, resume: bool) -> None:
        accepted = _FREE + (_RESUMABLE if resume else ())
        differences = [x for x in _differences(old, new) if not _is_among(x[0], accepted)]
        if not differences:
            return
        name, before, after = differences[0]
        if all(_is_among(name, _RESUMABLE) for name, _, _ in differences):
            remedy = "choose another folder, resume with the new value, or overwrite"
        else:
            remedy = "choose another folder, or overwrite"
        raise ValueError(
            f"{self.path} holds another run: {name} is {before!r} there, {after!r} here; {remedy}"
        )

    def _clear(self) -> None:
        # run.json goes last: a half-cleared folder must not pass for a run without checkpoints.
        for folder in (self.checkpoints, self.damaged, self.tensorboard):
            if folder.exists():
                shutil.rmtree(folder)
        self.metrics.unlink(missing_ok=True)
        self.run.unlink(missing_ok=True)


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes `path` so that a reader, or a kill, sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, old, new) of every leaf that differs; an absent one is None."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new


def _is_among(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
