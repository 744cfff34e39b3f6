"""One training step, as a pure function of an objective (`objective.py`)."""

import jax
import jax.numpy as jnp

from gen_jax import objectives
from gen_jax.training.objective import Objective
from gen_jax.training.state import (
    Batch,
    Module,
    Optimizer,
    TrainState,
    Tree,
    apply_gradients,
)
from gen_jax.typing import Array, Key


def train_step(
    state: TrainState,
    batch: Batch,
    key: Key,
    *,
    model: Module,
    objective: Objective,
    optimizer: Optimizer,
    ema_decay: float,
    accumulate: int = 1,
) -> tuple[TrainState, dict[str, Array]]:
    """One update on `batch`; the loss is the mean of -objective in bits/dim.

    Noise comes from `fold_in(key, state.step)`: `key` is that of the run. With `accumulate`
    k > 1 the gradient is the mean over k micro-batches, examples i::k, run one after another: the
    same update as from the whole batch (dropout, codes' noise and free bits aside, which belong
    to a micro-batch) in 1/k of the memory. Such examples
    lie on every device already, so a sharded batch moves nowhere.

    The metrics are on the device: nats, bits_per_dim, grad_norm, the mean of each term over
    the images, and finite (bool: loss and gradient).
    """
    _, height, width, channels = batch["images"].shape
    key = jax.random.fold_in(key, state.step)

    def loss(params: Tree, micro: Batch, key: Key) -> tuple[Array, dict[str, Array]]:
        variables = {"params": params, "running": {"nats": state.running_nats}}
        nats, terms = objective(model, variables, micro, key)
        means = {name: jnp.mean(values, axis=0) for name, values in terms.items()}
        means |= {"nats": jnp.mean(nats)}
        bits = objectives.bits_per_dim(nats, (height, width, channels)).mean()
        return bits, means | {"bits_per_dim": bits}

    gradient = jax.grad(loss, has_aux=True)
    if accumulate == 1:
        grads, metrics = gradient(state.params, batch, key)
    else:
        micro = jax.tree.map(lambda x: _interleave(x, accumulate), dict(batch))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(accumulate))
        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            jax.eval_shape(gradient, state.params, jax.tree.map(lambda x: x[0], micro), key),
        )

        def add(total: Tree, inputs: tuple[Batch, Key]) -> tuple[Tree, None]:
            return jax.tree.map(jnp.add, total, gradient(state.params, *inputs)), None

        total, _ = jax.lax.scan(add, zeros, (micro, keys))
        grads, metrics = jax.tree.map(lambda x: x / accumulate, total)

    state, norm = apply_gradients(state, grads, metrics["nats"], optimizer, ema_decay)
    finite = jnp.isfinite(metrics["bits_per_dim"]) & jnp.isfinite(norm)
    return state, metrics | {"grad_norm": norm, "finite": finite}


def _interleave(x: Array, parts: int) -> Array:
    """Examples i::parts as part i: [B, ...] -> [parts, B / parts, ...]."""
    return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
