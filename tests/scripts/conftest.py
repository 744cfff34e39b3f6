"""A tiny trained run, made by the training script itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gen_jax.pretrained import shipped
from gen_jax.scripts import publish, train

ROOT = Path(__file__).parents[2]
TINY = (
    "--model.features=4",
    "--model.num-layers=1",
    "--model.first-kernel-size=3",
    "--data.size=4",
    "4",
    "--training.steps=4",
    "--training.eval-every=2",
    "--training.eval-batch-size=64",
    "--training.batch-size=16",
    "--training.optimizer.warmup-steps=1",
)


TINY_CODES = ("--model.hidden", "4", "6", "--model.num-latents=2", *TINY[3:])


def train_tiny(workdir, *options, preset="gated-pixelcnn-digits"):
    train.main([preset, *TINY, f"--workdir={workdir}", *options])


def command(script, *arguments, timeout=300):
    """Runs a script as a user does, in a new process with one device."""
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{script}", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "tiny"
    train_tiny(workdir)
    return workdir


@pytest.fixture(scope="session")
def tiny_vae_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "vae"
    train.main(["vae-digits", *TINY_CODES, f"--workdir={workdir}"])
    return workdir


@pytest.fixture(scope="session")
def tiny_class_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "classes"
    train_tiny(workdir, preset="gated-pixelcnn-digits-classes")
    return workdir


@pytest.fixture(scope="session")
def models(tiny_run, tiny_vae_run, tmp_path_factory):
    """A folder with two tiny models."""
    folder = tmp_path_factory.mktemp("models")
    publish.main([str(tiny_run), "tiny", f"--output={folder}"])
    publish.main([str(tiny_vae_run), "tiny-vae", f"--output={folder}", "--num-samples=3"])
    return folder


@pytest.fixture
def by_name(models, tmp_path, monkeypatch):
    """They are the shipped ones; the current folder, which is empty, and what it holds later."""
    monkeypatch.setattr(shipped, "FOLDER", models)
    monkeypatch.chdir(tmp_path)
    return tmp_path
