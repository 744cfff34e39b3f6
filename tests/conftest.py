"""Strict numerics, and four CPU devices, for every test."""

import gc
import itertools
import os
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from .compilation import compile_quickly, optimized

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
compile_quickly()  # `optimized` is for what looks at programs
# Tracing makes millions of objects, nearly all of them to stay: looking through them as often as
# Python does by default takes a tenth of the time of all tests.
gc.set_threshold(200_000, 20, 50)


@pytest.fixture(name="optimized")
def compile_as_elsewhere():
    """All of XLA's optimizations inside one test."""
    with optimized():
        yield


@pytest.fixture
def x64():
    """Double precision inside one test."""
    with jax.enable_x64(True):
        yield


_count = itertools.count(1)
_MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def few_programs_at_once():
    """Every compiled program maps memory, and Linux allows a process 65,530 maps: past three
    quarters of them, now and then looked at, the programs of earlier tests go."""
    yield
    if next(_count) % 8 == 0 and _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > 50_000:
        jax.clear_caches()
        gc.collect()
