"""Steps cut where the host supplies a level, whatever it is that gives a site's parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import codec
from tests.cases import perturbed, some_images
from tests.codec.twofold import Twofold
from tests.likelihood_cases import Geometric


@pytest.mark.quick
def test_a_draw_of_constant_parameters():
    class Constant(Twofold):
        def step(self, carry, context, draw):
            for i in range(2):
                draw(i, jnp.asarray(np.full((len(context[0]), 1), 0.5, np.float32)))
            return carry

    model = Constant((2, 2, 1), Geometric(), features=1)
    variables, images = perturbed(model), np.asarray(some_images(model, 3))
    flag = "jax_use_simplified_jaxpr_constants"  # with it they are literals of the program
    before = getattr(jax.config, flag)
    jax.config.update(flag, True)
    try:
        found, _ = codec.decompress(model, variables, codec.compress(model, variables, images))
    finally:
        jax.config.update(flag, before)
    np.testing.assert_array_equal(found, images)
