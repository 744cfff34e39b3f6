"""A tiny trained run, made by the training script itself."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

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


class Result(NamedTuple):
    """What a script that is over leaves in its terminal."""

    returncode: int
    stdout: str
    stderr: str


def command(script, *arguments):
    """`python -m experiments.SCRIPT …`, in this process: no second one imports and compiles."""
    file, output, errors = script.replace(".", "/") + ".py", io.StringIO(), io.StringIO()
    status = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / "experiments" / file), run_name="__main__")
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Result(status, output.getvalue(), errors.getvalue())


def new_process(script, *arguments):
    """The same as a user does it: with one device, and all that these tests set up left out, but
    for programs that are compiled quickly."""
    process = subprocess.run(
        [sys.executable, "-m", f"experiments.{script}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Result(process.returncode, process.stdout, process.stderr)


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
