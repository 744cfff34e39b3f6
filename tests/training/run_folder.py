"""A run.json and the files of a checkpoint, without any training."""

import copy
import dataclasses
import json
import os

from gen_jax import likelihoods, models, training
from gen_jax.data import DataConfig

MODEL = models.GatedPixelCNN((4, 4, 1), likelihoods.Categorical(17))
RECORD = {
    "format": "gen_jax run 1",
    "model": models.to_dict(MODEL),
    "objective": training.target_to_dict(training.LOG_LIKELIHOOD),
    "data": {"config": dataclasses.asdict(DataConfig()), "fingerprint": "1"},
    "training": dataclasses.asdict(training.TrainConfig()),
    "processes": 1,
    "init_from": None,
    "earlier": [],
    "versions": {"jax": "0"},
}


def changed(name, value):
    """RECORD with another value at a dotted name; without it, if the value is `del`."""
    record = copy.deepcopy(RECORD)
    *path, last = name.split(".")
    place = record
    for key in path:
        place = place[key]
    if value == "del":
        del place[last]
    else:
        place[last] = value
    return record


def contents(folder):
    return {
        path: (os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }


def checkpoint(path, *names):
    """A checkpoint as far as its names go."""
    for name in names or ("params", "ema", "optimizer", "data", "metrics"):
        (path / name).mkdir(parents=True)
        (path / name / "_METADATA").write_text("{}")
    handlers = dict.fromkeys(names or ("params", "ema", "optimizer", "data"), "x")
    (path / "_CHECKPOINT_METADATA").write_text(json.dumps({"item_handlers": handlers}))
