"""Starting from the weights of another run."""

import dataclasses
import hashlib
import os

import jax
import numpy as np

from gen_jax import pretrained
from gen_jax.training.checkpoints import load, resolve_step
from gen_jax.training.schema import other_class
from gen_jax.training.state import TrainState, Tree
from gen_jax.training.workdir import Workdir
from gen_jax.typing import Json


def weights_of(
    run: str | os.PathLike[str], abstract: TrainState, workdir: Workdir, overwrite: bool
) -> tuple[Json, Tree | None]:
    """What run.json says of the start from `run`, and its best step's EMA, on the host.

    `run` may be the name of a shipped model.

    The EMA is None where the run in `workdir` has begun with it already, and goes on: with
    `overwrite` it does not.
    Raises ValueError, which names the first parameter that differs, unless names, shapes and
    dtypes are those of `abstract`.
    """
    if not overwrite and workdir.run.is_file() and workdir.has_checkpoints():
        begun = workdir.read().get("init_from")
        if begun is not None and os.path.abspath(begun["run"]) == os.path.abspath(run):
            return begun, None
    if pretrained.is_shipped(run):
        step, variables = pretrained.card(str(run)).step, pretrained.load(str(run))[1]
    else:
        step = resolve_step(run)
        other = other_class(Workdir(run).read()["model"])
        if other is not None:
            raise ValueError(
                f"init_from is {os.fspath(run)!r}, which has the {other}; accepted: a run of a "
                "model of gen_jax"
            )
        variables = load(run, step)[1]
    params = jax.device_get(variables["params"])
    theirs, ours = _leaves(params), _leaves(abstract.params)
    for name in [*ours, *theirs]:
        there, here = theirs.get(name), ours.get(name)
        if there != here:
            raise ValueError(
                f"init_from is {os.fspath(run)!r}, of another shape: its parameter {name} is "
                f"{there or 'absent'}; accepted: {here or 'absent'}, as here"
            )
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf).data)
    return {"run": os.fspath(run), "step": step, "sha256": digest.hexdigest()[:32]}, params


def begin(state: TrainState, params: Tree) -> TrainState:
    """A new `state`, with these parameters, which are its EMA too."""
    sharding = state.step.sharding

    def place(leaf: np.ndarray) -> jax.Array:
        return jax.device_put(np.array(leaf), sharding)  # a copy: a training step uses it up

    return dataclasses.replace(
        state, params=jax.tree.map(place, params), ema=jax.tree.map(place, params)
    )


def _leaves(tree: Tree) -> dict[str, str]:
    """Name -> shape and dtype of each parameter."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
