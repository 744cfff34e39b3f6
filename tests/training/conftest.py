"""Runs that tests look at, and the signals that a run from a terminal gets."""

import signal

import pytest

from gen_jax.training.workdir import Workdir

from . import tiny
from .run_folder import RECORD, checkpoint


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """The run that nothing disturbs."""
    path = tmp_path_factory.mktemp("reference")
    result = tiny.train(path)
    assert result.finished
    assert result.step == 20
    return path


@pytest.fixture
def as_from_a_terminal():
    """A process in the background may have been told to ignore Ctrl-C, and then does."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def run(tmp_path):
    """A run at step 5, as its files are named, with all that a run may leave."""
    path = tmp_path / "run"
    Workdir(path).claim(RECORD)
    checkpoint(path / "checkpoints" / "5")
    (path / "checkpoints" / "6.orbax-checkpoint-tmp" / "ema").mkdir(parents=True)
    (path / "checkpoints" / ".4.removed" / "ema").mkdir(parents=True)
    checkpoint(path / "damaged" / "5")
    checkpoint(path / "damaged" / "5-1")
    (path / "tensorboard").mkdir()
    (path / "tensorboard" / "events.out.tfevents.1.host").touch()
    (path / "metrics.jsonl").write_text('{"step": 1}\n')
    (path / "samples").mkdir()
    (path / "samples" / "step_1.png").touch()
    (path / "notes.txt").write_text("mine")
    return path
