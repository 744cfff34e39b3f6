"""A model of which the codec is asked all that a step may have."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from gen_jax import models


class Twofold(models.AutoregressiveModel):
    """A model of one's own with all that a step may have.

    Two kinds of rows; steps of two pixels, of which the last of a row of odd length is padding;
    what it carries given to the step as it is; parameters that the context alone gives; one array
    carried twice.
    """

    phases = 2

    def setup(self):
        self.kind = [nn.Dense(self.sites * self.params_per_site) for _ in range(2)]
        self.left = nn.Dense(self.sites * self.params_per_site)

    def blocks(self):
        height, width, _ = self.image_shape
        ids = np.full((height, width + width % 2), -1)
        ids[:, :width] = np.arange(height * width).reshape(height, width)
        return ids.reshape(height, -1, 2)

    def init_carry(self, batch, labels=None):
        zeros = jnp.zeros((batch, 1), self.dtype)
        return zeros, zeros, zeros

    def begin_block(self, carry, block, previous, phase):
        above = self.scale(jnp.swapaxes(previous, 1, 2)) * (block > 0).astype(self.dtype)
        first, total, again = carry
        context = (self.kind[phase](above), jnp.broadcast_to(total, (len(above), *total.shape)))
        return (jnp.zeros_like(first), total, again), context

    def step(self, carry, context, draw):
        (left, total, again), (above, before) = carry, context
        draw = self.scaled(draw)
        first = draw(0, above[:, 0])
        second = draw(1, above[:, 1] + self.left(left + first + before))
        total = (total + again) / 2 + first
        return second, total, total

    def __call__(self, images, labels=None):  # to make its parameters: it is only coded with
        images, labels = self.check(images, labels)
        pixels = self.scale(jnp.asarray(images))
        return self.site_params(self.kind[0](pixels) + self.kind[1](pixels) + self.left(pixels))
