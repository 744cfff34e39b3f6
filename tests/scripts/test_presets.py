"""What presets promise of the papers they are named after."""

import jax
import numpy as np
import optax
import pytest

from gen_jax import training
from gen_jax.scripts.presets import PRESETS


@pytest.mark.parametrize("name", ["vae-mnist-paper", "iwae-mnist-paper"])
def test_adam_makes_the_step_of_burda(name):
    """Of the mean in bits/dim, as theirs of the sum in nats with an eps of 1e-4."""
    preset = PRESETS[name]
    config = preset.training
    ours = training.make_optimizer(config.optimizer, config.steps)
    theirs = optax.adam(1e-3, b1=0.9, b2=0.999, eps=1e-4)
    scale = config.batch_size * np.prod(preset.model.image_shape) * np.log(2)
    weights = np.zeros((3, 4), np.float32)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes types
        states = ours.init(weights), theirs.init(weights)
        for seed in range(3):
            # Some of about eps, where it matters, and some far above it.
            gradient = np.random.default_rng(seed).normal(size=(3, 4)) * 10.0 ** np.arange(-5, -1)
            gradient = gradient.astype(np.float32)
            found, mine = ours.update(gradient / np.float32(scale), states[0], weights)
            expected, other = theirs.update(gradient, states[1], weights)
            states = mine, other
            np.testing.assert_allclose(found, expected, rtol=1e-4)
