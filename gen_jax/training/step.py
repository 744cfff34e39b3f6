"""One training step and one evaluation step, as pure functions of an objective (`objective.py`)."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gen_jax import objectives
from gen_jax.training.objective import Objective
from gen_jax.training.state import (
    Batch,
    NonFiniteError,
    Optimizer,
    TrainState,
    Tree,
    apply_gradients,
)
from gen_jax.typing import Array, Key, Nats


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
    same update as from the whole batch (dropout, codes' noise and free bits aside, which belong
    to a micro-batch) in 1/k of the memory. Such rows lie
    on every device already, so a sharded batch moves nowhere.

    The metrics are on the device: nats, bits_per_dim, grad_norm, the mean of each term over
    the images, and finite (bool: loss and gradient).
    """
    image_shape = batch["images"].shape[1:]
    key = jax.random.fold_in(key, state.step)

    def loss(params: Tree, micro: Batch, key: Key) -> tuple[Array, dict[str, Array]]:
        variables = {"params": params, "running": {"nats": state.running_nats}}
        nats, terms = objective(model, variables, micro, key)
        means = {name: jnp.mean(values, axis=0) for name, values in terms.items()}
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

    state, norm = apply_gradients(state, grads, metrics["nats"], optimizer, ema_decay)
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
    values = {name: _where(mask, x) for name, x in values.items()}
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
    terms: dict[str, float | list[float]]
    """Mean of each term of the objective over the images."""

    def as_dict(self) -> dict[str, Any]:
        """Flat and JSON-able; the standard error of a single image is null."""
        values = dataclasses.asdict(self)
        values |= values.pop("terms")
        return {name: None if _is_nan(value) else value for name, value in values.items()}


class Scores(NamedTuple):
    """An objective's value for every example of a split, once each and in its order."""

    nats: np.ndarray
    """In nats an image, `[N]`."""
    terms: dict[str, np.ndarray]
    """Each term of the objective, `[N]` or `[N, …]`."""
    image_shape: tuple[int, int, int]

    @property
    def bits_per_dim(self) -> np.ndarray:
        """In bits/dim, `[N]`."""
        # Linear: the image size and ln 2 stay in that one function.
        return self.nats * float(objectives.bits_per_dim(jnp.ones(1), self.image_shape)[0])

    def mean(self) -> Evaluation:
        """The mean over the examples, in float64.

        Raises ValueError if there are none, NonFiniteError if one of them is not finite.
        """
        count = len(self.nats)
        if count == 0:
            raise ValueError("there is nothing to evaluate: the batches hold 0 examples")
        wrong = np.flatnonzero(~np.isfinite(self.nats))
        if wrong.size:
            raise NonFiniteError(
                f"{wrong.size} of {count} images have a score that is not finite: "
                f"image {wrong[0]} has {self.nats[wrong[0]]} nats"
            )
        (nats, error), (bits, bits_error) = map(_mean_and_error, (self.nats, self.bits_per_dim))
        terms = {k: x.astype(np.float64).mean(axis=0).tolist() for k, x in self.terms.items()}
        return Evaluation(nats, error, bits, bits_error, count, terms)


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _where(mask: Array, x: Array) -> Array:
    """Rows of `x` where the mask is True, zeros elsewhere."""
    return jnp.where(mask.reshape(-1, *(1,) * (x.ndim - 1)), x, jnp.zeros_like(x))


def _interleave(x: Array, parts: int) -> Array:
    """Rows i::parts as part i: [B, ...] -> [parts, B / parts, ...]."""
    return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
