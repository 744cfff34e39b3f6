"""One training step and one evaluation step, as pure functions.

An objective is `objective(model, variables, batch, key) -> (nats [B], {name: [B]})`: what is
to be made large, one value an image, and any terms worth logging (none for a likelihood;
reconstruction and rate for a VAE). Training knows nothing else of a model.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gen_jax import objectives
from gen_jax.training.state import (
    Batch,
    Optimizer,
    TrainState,
    Tree,
    apply_gradients,
    takes_labels,
)
from gen_jax.typing import Array, Key, Nats

Terms: TypeAlias = Mapping[str, Array]
Objective: TypeAlias = Callable[[Any, Tree, Batch, Key], tuple[Nats, Terms]]


def log_likelihood(
    model: Any, variables: Tree, batch: Batch, key: Key
) -> tuple[Nats, dict[str, Array]]:
    """The objective of an autoregressive model in training: log p(x), dropout drawn from `key`."""
    rngs = {"dropout": key}
    nats = objectives.log_likelihood(
        model, variables, batch["images"], _labels(model, batch), rngs=rngs
    )
    return nats, {}


def log_likelihood_without_dropout(
    model: Any, variables: Tree, batch: Batch, key: Key
) -> tuple[Nats, dict[str, Array]]:
    """The objective of an autoregressive model in evaluation: log p(x), exact."""
    del key
    nats = objectives.log_likelihood(model, variables, batch["images"], _labels(model, batch))
    return nats, {}


def train_step(
    state: TrainState,
    batch: Batch,
    key: Key,
    *,
    model: nn.Module,
    objective: Objective,
    optimizer: Optimizer,
    ema_decay: float,
    accumulate: int = 1,
) -> tuple[TrainState, dict[str, Array]]:
    """One update on `batch`; the loss is the mean of -objective in bits/dim.

    Noise comes from `fold_in(key, state.step)`: `key` is that of the run. With `accumulate`
    k > 1 the gradient is the mean over k micro-batches, rows i::k, run one after another: the
    same update as from the whole batch (dropout aside) in 1/k of the memory. Such rows lie
    on every device already, so a sharded batch moves nowhere.

    The metrics are scalars on the device: nats, bits_per_dim, grad_norm, the mean of each
    term, and finite (bool: loss and gradient).
    """
    image_shape = batch["images"].shape[1:]
    key = jax.random.fold_in(key, state.step)

    def loss(params: Tree, micro: Batch, key: Key) -> tuple[Array, dict[str, Array]]:
        nats, terms = objective(model, {"params": params}, micro, key)
        means = {name: jnp.mean(values) for name, values in terms.items()}
        means |= {"nats": jnp.mean(nats)}
        bits = objectives.bits_per_dim(nats, image_shape).mean()
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

    state, norm = apply_gradients(state, grads, optimizer, ema_decay)
    finite = jnp.isfinite(metrics["bits_per_dim"]) & jnp.isfinite(norm)
    return state, metrics | {"grad_norm": norm, "finite": finite}


def eval_step(
    params: Tree, batch: Batch, key: Key, *, model: nn.Module, objective: Objective
) -> tuple[Nats, dict[str, Array]]:
    """The objective of each image in nats and its terms, exactly 0 where the mask is False."""
    mask = batch["mask"]
    inputs = {name: value for name, value in batch.items() if name != "mask"}
    nats, terms = objective(model, {"params": params}, inputs, key)
    values = {"nats": nats, **terms}
    # `where`, not a product: padding may give inf or NaN.
    values = {name: jnp.where(mask, x, jnp.zeros_like(x)) for name, x in values.items()}
    return values.pop("nats"), values


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The mean of an objective over every example of a split, once each."""

    nats: float
    """Mean of the objective, in nats an image."""
    nats_standard_error: float
    """Its standard error: sample standard deviation / sqrt(count)."""
    bits_per_dim: float
    bits_per_dim_standard_error: float
    count: int
    """Examples counted."""
    terms: dict[str, float]
    """Mean of each term of the objective."""

    def as_dict(self) -> dict[str, Any]:
        """Flat and JSON-able."""
        values = dataclasses.asdict(self)
        return values | values.pop("terms")


def summarize(nats: np.ndarray, terms: dict[str, np.ndarray], image_shape: Any) -> Evaluation:
    """The evaluation of the per-image values of a whole split, in float64.

    Raises ValueError if there are none.
    """
    count = len(nats)
    if count == 0:
        raise ValueError("there is nothing to evaluate: the batches hold 0 examples")
    nats = nats.astype(np.float64)
    error = float(nats.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    # bits_per_dim is linear: the image size and ln 2 stay in that one function.
    bits = float(objectives.bits_per_dim(jnp.ones(1), tuple(image_shape))[0])
    mean = float(nats.mean())
    return Evaluation(
        nats=mean,
        nats_standard_error=error,
        bits_per_dim=mean * bits,
        bits_per_dim_standard_error=error * abs(bits),
        count=count,
        terms={name: float(x.astype(np.float64).mean()) for name, x in terms.items()},
    )


def _labels(model: nn.Module, batch: Batch) -> Any:
    """The labels if the model takes them: a set with labels also trains a model without."""
    return batch["labels"] if takes_labels(model) else None


def _interleave(x: Array, parts: int) -> Array:
    """Rows i::parts as part i: [B, ...] -> [parts, B / parts, ...]."""
    return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
