"""A run's folder: run.json says what the run is, and whether another one may continue it.

run.json         the model, the data, the settings and the versions (written atomically)
checkpoints/     one folder a step
damaged/         checkpoints that could not be read, moved aside
metrics.jsonl    one JSON object a line
tensorboard/     the same numbers as TensorBoard events
.lock            held while the run lives; says by whom

Only what is recognisably a run of this library is ever removed.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from gen_jax import checks, pretrained
from gen_jax.files import naming, write_atomically
from gen_jax.training import checkpoint_files
from gen_jax.training.schema import FORMAT, check_run, with_defaults
from gen_jax.typing import Json

Record: TypeAlias = Mapping[str, Any]

# Settings that may change from one start to the next: they leave the parameters as they are.
_FREE = (
    "versions",
    "earlier",
    "data.class_names",
    "training.eval_every",
    "training.eval_batch_size",
    "training.log_every",
    "training.sample_every",
    "training.keep",
)
# Where things lie that are told by their content: the data by a fingerprint, weights by a hash.
_PLACES = {
    "data.config.name": "the data",
    "data.config.data_dir": "the data",
    "init_from.run": "the weights at the start",
}
# Settings that make it another run, but one that can go on from this one's state.
_RESUMABLE = ("training.steps", "training.accumulate", "training.optimizer")


class Workdir:
    """The paths of a run, absolute (Orbax asks for that).

    ValueError for an empty path, and for a remote one.
    """

    def __init__(self, path: str | os.PathLike[str]):
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"the folder of a run is {path!r}; accepted: a path")
        text = os.fspath(path)
        if not text.strip():
            raise ValueError(f"the folder of a run is {text!r}; accepted: a path")
        # A single letter is a drive. pathlib has made gs://bucket gs:/bucket.
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
            raise ValueError(f"the folder of a run is {text!r}; accepted: a local path, mounted")
        self.path = checks.expanded("the folder of a run", path).absolute()
        self.run = self.path / "run.json"
        self.checkpoints = self.path / "checkpoints"
        self.damaged = self.path / "damaged"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"

    def read(self) -> Json:
        """What run.json says. Raises ValueError if there is no run here, or it is damaged."""
        if not self.path.is_dir():
            raise ValueError(
                f"{self.path} is not a folder; accepted: the folder of a trained run (to "
                "gen_jax.load and the scripts also the name of a shipped model: "
                f"{pretrained.suggestion(self.path.name)})"
            )
        if not self.run.is_file():
            raise ValueError(f"{self.path} holds no run.json; accepted: folders of trained runs")
        try:
            record = json.loads(self.run.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise checks.unreadable(self.run, error) from error
        check_run(record, os.fspath(self.run))
        return record

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder, which it makes, against every other run; death releases it too.

        Raises ValueError if a run holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / ".lock"
        with naming(path):
            # A link is not followed: it may lead to anybody's file.
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            file = os.fdopen(number, "r+", encoding="utf-8")
        with file:
            try:
                with naming(path):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{self.path} is in use by {_holder(path)}; accepted: another folder, or "
                    "this one when that has ended"
                ) from None
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            with naming(path):
                file.truncate(0)
                file.write(json.dumps(holder) + "\n")
                file.flush()
            yield

    def check(self, record: Record, *, resume: bool = False, overwrite: bool = False) -> None:
        """The refusals of `claim`, with nothing written."""
        self._plan(_as_json(record), resume, overwrite)

    def claim(
        self,
        record: Record,
        *,
        resume: bool = False,
        overwrite: bool = False,
        notify: Callable[[str], None] = print,
    ) -> None:
        """Makes this the folder of the run that `record` describes, and writes run.json.

        A folder that holds the same run is taken as it is, and one of a run that never came
        to its first checkpoint is begun anew. One that holds another is refused
        with a ValueError that names the first difference, unless `overwrite`, which deletes
        that run, or `resume` where only the number of steps, the optimiser or the gradient
        accumulation differ: what they were is kept, under `earlier`. Anything that no run has
        written is refused, and left alone.
        `notify` is told of the same data at another path.
        """
        record = _as_json(record)
        unwanted, notes = self._plan(record, resume, overwrite)
        record["earlier"] = [] if overwrite else self._earlier(record)
        for path in unwanted:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        for note in notes:
            notify(note)
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.run, json.dumps(record, indent=2) + "\n")

    def goes_on_from(self, step: int) -> None:
        """Says so in run.json: with a damaged checkpoint went the steps that led to it."""
        record = self.read()
        stages = record.get("earlier", [])
        record["earlier"] = _taken(stages, step, record["training"])
        if record["earlier"] != stages:
            write_atomically(self.run, json.dumps(record, indent=2) + "\n")

    def has_checkpoints(self) -> bool:
        """Whether the run has come to its first checkpoint, damaged or not."""
        return bool(checkpoint_files.steps(self.checkpoints))

    @staticmethod
    def difference(old: Record, new: Record) -> str | None:
        """The first setting in which two records differ, in words; None if none does."""
        for name, before, after in _differences(with_defaults(old), with_defaults(new)):
            return f"{name} is {before!r} there, {after!r} here"
        return None

    def _plan(
        self, record: Record, resume: bool, overwrite: bool
    ) -> tuple[list[pathlib.Path], list[str]]:
        """What is to be removed, in order, and what to say. Raises ValueError for a refusal."""
        if resume and overwrite:
            raise ValueError("resume and overwrite are both True; accepted: one of them")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; accepted: a folder, or a path to make one at")
        check_run(record, "the run")
        lock = self.path / ".lock"
        if not os.path.lexists(self.run):
            others = (self.path / name for name in ("loss.png", "samples"))
            places = (self.checkpoints, self.damaged, self.metrics, self.tensorboard)
            for path in (*places, *others, *([lock] if not _is_lock(lock) else [])):
                if os.path.lexists(path):
                    raise ValueError(
                        f"{self.path} holds {path.name} but no run.json to say of what; "
                        "accepted: another folder"
                    )
            return [], []
        if overwrite and self._is_marked():
            return self._everything(), []
        old = self.read()
        if overwrite:
            return self._everything(), []
        notes = self._compare(old, record, resume)
        for path in _entries(self.checkpoints):
            if path.name.isdigit() and not checkpoint_files.is_ours(path):
                raise ValueError(
                    f"{path} is not a checkpoint of this run; accepted: the folder without it "
                    "(move it away)"
                )
        # Its numbers end before the first checkpoint: they are made anew.
        return ([] if self.has_checkpoints() else self._numbers()), notes

    def _is_marked(self) -> bool:
        """Whether run.json says that it is ours, whatever else it says."""
        try:
            record = json.loads(self.run.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(record, dict) and record.get("format") == FORMAT

    def _compare(self, old: Record, new: Record, resume: bool) -> list[str]:
        found = list(_differences(with_defaults(old), with_defaults(new)))
        accepted = _FREE + tuple(_PLACES) + (_RESUMABLE if resume else ())
        differences = [x for x in found if not _is_among(x[0], accepted)]
        if not differences:
            return [
                f"{_PLACES[name]} of {self.path}, {before!r} when it began, are now {after!r}: "
                "the same"
                for name, before, after in found
                if name in _PLACES
            ]
        name, before, after = differences[0]
        if all(_is_among(name, _RESUMABLE) for name, _, _ in differences):
            remedy = (
                "another folder, or the new value with resume, or overwrite (--resume, --overwrite)"
            )
        else:
            remedy = "another folder, or overwrite (--overwrite)"
        raise ValueError(
            f"{self.path} holds another run: {name} is {before!r} there, {after!r} here; accepted: "
            f"{remedy}"
        )

    def _earlier(self, new: Record) -> list[Json]:
        """How the run was trained before, as if all of its checkpoints could be read."""
        last = max(checkpoint_files.steps(self.checkpoints), default=0)
        if not last:
            return []
        old = with_defaults(self.read())
        stages = [*old["earlier"], {"until": last, "training": old["training"]}]
        return _taken(stages, last, with_defaults(new)["training"])

    def _everything(self) -> list[pathlib.Path]:
        """All that a run writes here and another would take for its own.

        run.json goes last: a half-cleared folder must not pass for a run without checkpoints.
        Raises ValueError if there is anything else among it.
        """
        for path in _entries(self.checkpoints):
            if not checkpoint_files.is_ours(path) and not checkpoint_files.is_leftover(path):
                _foreign(path)
        for path in _entries(self.damaged):
            if not checkpoint_files.is_set_aside(path):
                _foreign(path)
        folders = [p for p in (self.checkpoints, self.damaged) if p.exists()]
        return [*folders, *self._numbers(), self.run]

    def _numbers(self) -> list[pathlib.Path]:
        for path in _entries(self.tensorboard):
            if not path.name.startswith("events.out.tfevents.") or not path.is_file():
                _foreign(path)
        if self.metrics.is_dir():
            _foreign(self.metrics)
        return [p for p in (self.tensorboard, self.metrics) if os.path.lexists(p)]


def _taken(stages: Sequence[Json], last: int, training: Json) -> list[Json]:
    """The stages up to step `last` that took steps, and were not by the settings that follow."""
    taken: list[Json] = []
    for stage in stages:
        until = min(stage["until"], last)
        if until > (taken[-1]["until"] if taken else 0):
            taken.append({**stage, "until": until})
    found = _differences(taken[-1]["training"], training, "training") if taken else ()
    if not any(_is_among(name, _RESUMABLE) for name, _, _ in found):
        del taken[-1:]
    return taken


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
    """What a folder of the run holds. A link, or a file in its place, is not of the run."""
    if not os.path.lexists(folder):
        return []
    if folder.is_symlink() or not folder.is_dir():
        _foreign(folder)
    return sorted(folder.iterdir())


def _foreign(path: pathlib.Path) -> None:
    raise ValueError(
        f"{path} was not written by a run, and is not removed; accepted: the folder without it "
        "(move it away)"
    )


def _is_lock(path: pathlib.Path) -> bool:
    """Whether it is what `lock` leaves, if anything is there."""
    if not os.path.lexists(path):
        return True
    with contextlib.suppress(OSError, ValueError):
        text = path.read_text(encoding="utf-8")
        return path.is_file() and not path.is_symlink() and (not text or "pid" in json.loads(text))
    return False


def _holder(path: pathlib.Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads(path.read_text(encoding="utf-8"))
        return "process {pid} on {host} since {since}".format(**holder)
    return "another process"


def _as_json(record: Record) -> Json:
    """As it will be read; numbers of NumPy are numbers."""
    return json.loads(json.dumps(record, default=lambda value: value.item()))


def _differences(old: object, new: object, name: str = "") -> Iterator[tuple[str, object, object]]:
    """(dotted name, old, new) of every leaf that differs; an absent one is None."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new


def _is_among(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
