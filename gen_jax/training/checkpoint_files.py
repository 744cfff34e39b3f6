"""What a checkpoint is on the disk, without Orbax: whose, complete or not, its loss, its seal.

checkpoints/N/{params, ema, optimizer}   arrays, with a _METADATA each
checkpoints/N/data                       the position of the training iterator
checkpoints/N/metrics/metrics            the validation loss
checkpoints/N/_CHECKPOINT_METADATA       Orbax's, with our seal: the step and the position again
"""

import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import jax

from gen_jax.files import naming, write_atomically

ARRAYS = ("params", "ema", "optimizer")
_ITEMS = {*ARRAYS, "data"}
_INDEX = "_CHECKPOINT_METADATA"
_NAMES = {*_ITEMS, "metrics", _INDEX, "commit_success.txt", "orbax.checkpoint"}
_LOSS = "loss"
_SEAL = "gen_jax"


def steps(folder: pathlib.Path) -> list[int]:
    """The steps of which there is a checkpoint of ours, complete or not, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if is_ours(path))


def is_ours(path: pathlib.Path) -> bool:
    """Whether a folder is a checkpoint of a run: a step, that holds nothing but our items."""
    if not re.fullmatch(r"0|[1-9][0-9]*", path.name) or path.is_symlink() or not path.is_dir():
        return False
    return _holds_our_items(path)


def _holds_our_items(path: pathlib.Path) -> bool:
    """Whether its index names our items; where that is damaged, whether some of them are there."""
    names = {entry.name for entry in path.iterdir()}
    handlers = _index(path).get("item_handlers")
    if isinstance(handlers, dict):
        return names <= _NAMES and handlers.keys() >= _ITEMS
    return names <= _NAMES and bool(names & set(ARRAYS))


def is_leftover(path: pathlib.Path) -> bool:
    """Whether it is what a kill left of a save, or of a removal."""
    name = r"[0-9]+\.orbax-checkpoint-tmp.*|\.[0-9]+\.removed"
    return bool(re.fullmatch(name, path.name)) and path.is_dir() and not path.is_symlink()


def is_set_aside(path: pathlib.Path) -> bool:
    """Whether it is a checkpoint that `set_aside` has put there."""
    if not re.fullmatch(r"[0-9]+(-[0-9]+)?", path.name) or path.is_symlink() or not path.is_dir():
        return False
    return _holds_our_items(path)


def is_complete(path: pathlib.Path) -> bool:
    """Whether all items are there, as far as their own records say."""
    handlers = _index(path).get("item_handlers")
    if not isinstance(handlers, dict) or not handlers.keys() >= _ITEMS:
        return False
    arrays = (path / name / "_METADATA" for name in ARRAYS)
    return (path / "data").is_dir() and all(isinstance(_json(file), dict) for file in arrays)


def losses(folder: pathlib.Path, notify: Callable[[str], None]) -> dict[int, float | None]:
    """Step -> validation loss (None without one) of each complete checkpoint, in order.

    `notify` is told, in one line, of each loss that cannot be read.
    """
    found: dict[int, float | None] = {}
    for step in steps(folder):
        path = folder / str(step)
        if is_complete(path):
            found[step] = _read_loss(path, notify)
    return found


def write_loss(path: pathlib.Path, loss: float) -> None:
    """Adds the validation loss to a checkpoint."""
    file = path / "metrics" / "metrics"
    with naming(file):
        file.parent.mkdir(exist_ok=True)
    write_atomically(file, json.dumps({_LOSS: loss}))


def _read_loss(path: pathlib.Path, notify: Callable[[str], None]) -> float | None:
    file = path / "metrics" / "metrics"
    sealed = _loss(_sealed(path))
    if not os.path.lexists(file):
        return sealed  # a kill came between the two
    loss = _loss(_json(file))
    if loss is not None and sealed in (None, loss):
        return loss
    notify(f"{file} is damaged: step {path.name} counts as not validated")
    return None


def _loss(values: Any) -> float | None:
    loss = values.get(_LOSS) if isinstance(values, dict) else None
    if isinstance(loss, int | float) and not isinstance(loss, bool) and math.isfinite(loss):
        return float(loss)
    return None


def seal(step: int, data: Any, loss: float | None) -> dict[str, Any]:
    """What its small files say, once more: step, loss, and the position of `data` if it is JSON."""
    values: dict[str, Any] = {"step": step, _LOSS: loss}
    if hasattr(data, "get_state"):
        values["position"] = _state(data.get_state())
    return {_SEAL: values}


def disagreement(path: pathlib.Path) -> str | None:
    """What is wrong with the position in the data, if it is not that of the step.

    A checkpoint of old has no seal: its position is compared if it is one of our own iterator.
    """
    step = int(path.name)
    sealed = _sealed(path)
    file = path / "data" / f"process_0-of-{jax.process_count()}.json"
    state = _json(file)
    if sealed.get("step", step) != step:
        return f"it was saved at step {sealed['step']}"
    if sealed.get("position") is not None:
        same = state == sealed["position"] or not file.exists()  # an iterator with other files
        return None if same else f"{file.relative_to(path)} is not what was saved"
    own = isinstance(state, dict) and state.keys() == {"next_index"}
    if own and state["next_index"] != step:
        return f"its position in the data is {state['next_index']!r}"
    return None


def remove(path: pathlib.Path) -> None:
    """Removes a checkpoint of ours; a reader sees all of it, or nothing."""
    target = path.with_name(f".{path.name}.removed")
    os.rename(path, target)
    shutil.rmtree(target)


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what kills have left of saves and removals."""
    if folder.is_dir():
        for path in folder.iterdir():
            if is_leftover(path):
                shutil.rmtree(path)


def set_aside(path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Moves a damaged checkpoint to `folder`, under a name that is free."""
    folder.mkdir(exist_ok=True)
    target, count = folder / path.name, 0
    while os.path.lexists(target):
        count += 1
        target = folder / f"{path.name}-{count}"
    os.rename(path, target)
    return target


def _index(path: pathlib.Path) -> dict[str, Any]:
    index = _json(path / _INDEX)
    return index if isinstance(index, dict) else {}


def _sealed(path: pathlib.Path) -> dict[str, Any]:
    return _member(_member(_index(path), "custom_metadata"), _SEAL)


def _member(values: dict[str, Any], name: str) -> dict[str, Any]:
    member = values.get(name)
    return member if isinstance(member, dict) else {}


def _state(state: Any) -> Any:
    """The state of an iterator as JSON; None if it is none."""
    try:
        return json.loads(state if isinstance(state, str | bytes) else json.dumps(state))
    except (TypeError, ValueError):
        return None


def _json(file: pathlib.Path) -> Any:
    """What a file of JSON says; None if it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
