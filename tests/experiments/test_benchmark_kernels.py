"""experiments.benchmark_kernels: both readings compute the same, and a ratio is printed."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import benchmark_kernels


@pytest.mark.parametrize("shape", [(3, 7), (8, 2)], ids=str)
def test_both_compute_the_same(shape):
    """And every kernel and round changes the vector."""
    found = []
    for count, rounds in ((1, 1), (2, 1), (2, 2)):
        straight = benchmark_kernels._reader(shape, count, rounds, jnp.matmul)()
        turned = benchmark_kernels._reader(shape, count, rounds, jnp.inner)()
        np.testing.assert_allclose(straight, turned, rtol=1e-5, atol=1e-6)
        assert straight.shape == (1, shape[0])
        assert all(np.all(straight != other) for other in found)
        found.append(straight)


def test_prints_a_ratio(capsys):
    benchmark_kernels.main(["--features=64", "--megabytes=1", "--rounds=1", "--repeats=1"])
    printed = capsys.readouterr().out
    assert "ratio" in printed
    assert "[256, 64]" in printed
