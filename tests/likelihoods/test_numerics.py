"""What likelihoods share, where floating point would lose it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gen_jax.likelihoods.numerics import log1mexp, log_sigmoid, temper

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
def test_log1mexp_is_accurate_and_finite_for_any_x(dtype, tolerance):
    """log(1 − e^{−x}) from log x: where x or e^{−x} underflows, and in between."""
    with jax.enable_x64(dtype == "float64"):
        log_x = jnp.concatenate([jnp.linspace(-12, 2.5, 400), jnp.asarray([-1e4, -90, 5, 1e2])])
        log_x = log_x.astype(dtype)
        found = np.asarray(log1mexp(log_x), np.float64)
        exact = np.asarray(log_x, np.longdouble)
        with np.errstate(over="ignore", divide="ignore"):
            x = np.exp(exact)
            expected = np.where(x > 0, np.log(-np.expm1(-x)), exact)
            expected = np.where(exact < -1e3, exact, expected).astype(np.float64)
        rounding = 2 * np.finfo(dtype).eps  # of 1 − e^{−x}, where it is nearly 1
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=rounding)
        slope = jax.vmap(jax.grad(log1mexp))(log_x)  # e^100 is infinite in float32
        assert np.isfinite(slope).all()
        assert slope[-1] == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-13)])
def test_log_sigmoid_and_its_slopes(dtype, tolerance):
    """log σ(x), σ(−x) and −σ(x) σ(−x), at 0 and where they underflow too."""
    with jax.enable_x64(dtype == "float64"):
        x = jnp.concatenate([jnp.linspace(-40, 40, 81), jnp.asarray([-1e4, 1e4, -jnp.inf])])
        x = x.astype(dtype)
        slope = jax.grad(log_sigmoid)
        found = [jax.vmap(f)(x) for f in (log_sigmoid, slope, jax.grad(slope))]
        exact = np.asarray(x, np.float64)
        up, down = special.expit(exact), special.expit(-exact)
        expected = special.log_expit(exact), down, -up * down
        few = np.finfo(dtype)
        for one, other, atol in zip(found, expected, (few.tiny, few.tiny, few.eps), strict=True):
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=atol)


def test_a_tiny_temperature_overflows_nothing():
    logits = jnp.asarray([[1e4, -3.0, 1e4 - 1]])
    for temperature in (1e-30, 1e-6, 1.0):
        found = np.asarray(temper(logits, jnp.asarray(temperature)))
        assert found[0, 0] == 0
        assert not np.isnan(found).any()
        np.testing.assert_allclose(np.exp(found[0, 2]), np.exp(-1 / temperature), rtol=1e-3)
    np.testing.assert_array_equal(temper(logits, jnp.zeros(())), temper(logits, jnp.ones(())))
