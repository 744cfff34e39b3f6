"""A model that is none of the library's, and an objective of its own, to be trained."""

import flax.linen as nn
import jax.numpy as jnp

from . import tiny


class Toy(nn.Module):
    """Each pixel from its left neighbour; not autoregressive by name: training must not care."""

    image_shape: tuple[int, int, int] = tiny.SHAPE
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images):
        x = jnp.roll(images, 1, axis=2).astype(self.dtype)
        x = nn.Dense(8, dtype=self.dtype)(x)
        x = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(nn.tanh(x))
        return nn.Dense(1, dtype=self.dtype)(x).astype(jnp.float32)


def bernoulli(model, variables, batch, key):
    logits = model.apply(variables, batch["images"], rngs={"dropout": key})
    signs = 2.0 * batch["images"].astype(jnp.float32) - 1
    nats = nn.log_sigmoid(signs * logits).sum((1, 2, 3))
    return nats, {"half": nats / 2}
