"""What has no probability is never drawn."""

import jax
import numpy as np
import pytest
from scipy import special

from gen_jax.likelihoods import Categorical
from tests.likelihood_cases import draw

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [7, 64, 256])
def test_impossible_levels_are_never_drawn(levels, dtype):
    """Weight zero, probability zero: also for noise within rounding of where the levels meet."""
    likelihood = Categorical(levels)
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == np.float64):
        for _ in range(20):
            possible = rng.random(levels) < 0.3
            possible[rng.integers(levels)] = True
            logits = np.where(possible, rng.normal(0, 3, levels), -1e9).astype(dtype)
            bounds = np.cumsum(special.softmax(logits.astype(np.float64)))
            eps = np.finfo(dtype).eps
            near = bounds[:, None] * (1 + eps * np.arange(-6, 7)[None] / 2)
            noise = np.concatenate([near.reshape(-1), [eps, 0.5, 1 - eps]])
            noise = np.clip(noise, eps, 1 - eps).astype(dtype)[:, None]
            batch = np.broadcast_to(logits, (len(noise), levels))
            for temperature in (1.0, 0.3):
                drawn = draw(likelihood, 1, batch, noise, temperature)[:, 0]
                assert possible[drawn].all()
