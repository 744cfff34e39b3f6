"""The embedding of a class."""

import flax.linen as nn
import jax.numpy as jnp

from gen_jax import checks
from gen_jax.layers.convolution import param_dtype
from gen_jax.typing import Array, Dtype, Float, Labels


class ClassEmbedding(nn.Module, kw_only=True):
    """Rows of a table, as `nn.Embed` has them, but for what is no class: NaN, also for −1."""

    num_classes: int
    features: int
    dtype: Dtype

    @nn.compact
    def __call__(self, labels: Labels | None) -> Float[Array, "B F"]:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
        shape = (self.num_classes, self.features)
        table = self.param("embedding", init, shape, param_dtype(self.dtype))
        if labels is None:
            raise ValueError(
                f"labels is None; accepted: one of {self.num_classes} classes an image"
            )
        labels = jnp.asarray(labels)
        vectors = jnp.take(table.astype(self.dtype), labels, axis=0, mode="clip")
        valid = checks.in_range(labels, self.num_classes)
        return checks.nan_unless(None if valid is None else valid[:, None], vectors)
