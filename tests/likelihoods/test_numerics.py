"""What likelihoods share, where floating point would lose it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.likelihoods.numerics import log1mexp, temper

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


def test_a_tiny_temperature_overflows_nothing():
    logits = jnp.asarray([[1e4, -3.0, 1e4 - 1]])
    for temperature in (1e-30, 1e-6, 1.0):
        found = np.asarray(temper(logits, jnp.asarray(temperature)))
        assert found[0, 0] == 0
        assert not np.isnan(found).any()
        np.testing.assert_allclose(np.exp(found[0, 2]), np.exp(-1 / temperature), rtol=1e-3)
    np.testing.assert_array_equal(temper(logits, jnp.zeros(())), temper(logits, jnp.ones(())))
