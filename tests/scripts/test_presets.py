"""What presets promise of the papers they are named after."""

import jax
import numpy as np
import optax
import pytest

from gen_jax import training
from gen_jax.scripts.presets import PRESETS

# In nats of the sum over a batch: Burda et al. 2016, and Salimans et al. 2017 as in their code,
# whose first learning rate has decayed once.
_BURDA = optax.adam(1e-3, b1=0.9, b2=0.999, eps=1e-4)
_SALIMANS = optax.adam(
    lambda count: 1e-3 * 0.999995 ** (count + 1), b1=0.95, b2=0.9995, eps=0.0, eps_root=1e-8
)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("vae-mnist-paper", _BURDA),
        ("iwae-mnist-paper", _BURDA),
        ("pixelcnn-pp-cifar10", _SALIMANS),
    ],
)
def test_adam_makes_the_step_of_the_paper(name, theirs):
    """Of the mean in bits/dim, as theirs of the sum in nats."""
    preset = PRESETS[name]
    config = preset.training
    ours = training.make_optimizer(config.optimizer, config.steps)
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
