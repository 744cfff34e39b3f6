"""Scores of whole splits: an objective's value for every example, once each."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gen_jax import meshes, objectives
from gen_jax.precision import Precision, matmul_precision
from gen_jax.reprs import brief
from gen_jax.training.devices import make_mesh, put_batch, to_host
from gen_jax.training.objective import LogLikelihood, Objective
from gen_jax.training.state import Batch, Module, NonFiniteError, Tree
from gen_jax.typing import Array, Json, Key, Nats
from gen_jax.xla import compiler_options


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The mean of an objective over every example of a split, once each."""

    nats: float
    """Mean of the objective, in nats an image."""
    nats_standard_error: float
    """Its standard error: sample standard deviation / sqrt(count)."""
    bits_per_dim: float
    """Minus that, in bits per channel of a pixel: the lower the better."""
    bits_per_dim_standard_error: float
    """Its standard error."""
    count: int
    """Examples counted."""
    terms: dict[str, float | list[float]]
    """Mean of each term of the objective over the images."""

    def __repr__(self) -> str:
        numbers = {name: term for name, term in self.terms.items() if not isinstance(term, list)}
        terms = "".join(f", {name} {term:.2f}" for name, term in numbers.items())
        return (
            f"Evaluation({self.nats:.2f} ± {self.nats_standard_error:.2f} nats, "
            f"{self.bits_per_dim:.4f} ± {self.bits_per_dim_standard_error:.4f} bits/dim, "
            f"{self.count:,} images{terms})"
        )

    def as_dict(self) -> Json:
        """Flat and JSON-able; the standard error of a single image is null."""
        values = dataclasses.asdict(self)
        values |= values.pop("terms")
        return {name: None if _is_nan(value) else value for name, value in values.items()}


class Scores(NamedTuple):
    """An objective's value for every example of a split, once each and in its order."""

    nats: np.ndarray
    """The objective, in nats an image, `[N]`."""
    terms: dict[str, np.ndarray]
    """Each term of the objective, `[N]` or `[N, …]`."""
    image_shape: tuple[int, int, int]
    """Height, width, channels."""

    __repr__ = brief

    @property
    def bits_per_dim(self) -> np.ndarray:
        """Minus the objective in bits/dim, `[N]`."""
        # Linear: the image size and ln 2 stay in that one function.
        return self.nats * float(objectives.bits_per_dim(jnp.ones(1), self.image_shape)[0])

    def mean(self) -> Evaluation:
        """The mean over the examples, in float64.

        Raises ValueError if there are none, NonFiniteError if one of them is not finite.
        """
        count = len(self.nats)
        if count == 0:
            raise ValueError("the batches to evaluate hold 0 examples; accepted: one or more")
        wrong = np.flatnonzero(~np.isfinite(self.nats))
        if wrong.size:
            raise NonFiniteError(
                f"{wrong.size} of {count} images have a score that is not finite: "
                f"image {wrong[0]} has {self.nats[wrong[0]]} nats"
            )
        (nats, error), (bits, bits_error) = map(_mean_and_error, (self.nats, self.bits_per_dim))
        terms = {k: x.astype(np.float64).mean(axis=0).tolist() for k, x in self.terms.items()}
        return Evaluation(nats, error, bits, bits_error, count, terms)


def evaluate(
    model: Module,
    params: Tree,
    batches: Iterable[Batch],
    key: Key,
    objective: Objective,
    mesh: Mesh | None = None,
    precision: Precision = "highest",
) -> Evaluation:
    """The mean of `score`. Raises ValueError if there are no examples."""
    return score(model, params, batches, key, objective, mesh, precision).mean()


def score(
    model: Module,
    params: Tree,
    batches: Iterable[Batch],
    key: Key,
    objective: Objective,
    mesh: Mesh | None = None,
    precision: Precision = "highest",
) -> Scores:
    """The objective of every example of `batches`, once each and in order, padding left out.

    Each batch has images, mask and maybe labels. Batch i draws its noise from fold_in(key, i).
    Dropout is never active.
    Matmuls are in all of float32, on an accelerator too, unless `precision` says otherwise.
    Raises ValueError if there are no batches.
    """
    if isinstance(objective, LogLikelihood):
        objective = objective.evaluation
    mesh = make_mesh() if mesh is None else meshes.data_mesh(mesh)
    step = _compiled_eval_step(mesh.devices.flat[0].platform)
    values, previous, image_shape = [], None, (0, 0, 0)
    with meshes.in_force(mesh):
        params, key = meshes.replicate((params, key), mesh)
        for i, batch in enumerate(batches):
            _, height, width, channels = batch["images"].shape
            image_shape = (height, width, channels)
            batch = put_batch(batch, mesh)
            nats, terms = step(
                params,
                batch,
                jax.random.fold_in(key, i),
                model=model,
                objective=objective,
                precision=precision,
            )
            # Read a batch only once the next is on its way.
            if previous is not None:
                values.append(_unpadded(previous))
            previous = {**terms, "nats": nats, "mask": batch["mask"]}
        if previous is None:
            raise ValueError("there are 0 batches to evaluate; accepted: one or more")
        values.append(_unpadded(previous))
    columns = {name: np.concatenate([part[name] for part in values]) for name in values[0]}
    return Scores(columns.pop("nats").astype(np.float64), columns, image_shape)


def eval_step(
    params: Tree,
    batch: Batch,
    key: Key,
    *,
    model: Module,
    objective: Objective,
    precision: Precision = "highest",
) -> tuple[Nats, dict[str, Array]]:
    """The objective of each image in nats and its terms, exactly 0 where the mask is False."""
    mask = jnp.asarray(batch["mask"])
    inputs = {name: value for name, value in batch.items() if name != "mask"}
    with matmul_precision(precision):
        nats, terms = objective(model, {"params": params}, inputs, key)
    values = {"nats": nats, **terms}
    # `where`, not a product: padding may give inf or NaN.
    values = {name: _where(mask, x) for name, x in values.items()}
    return values.pop("nats"), values


@functools.cache
def _compiled_eval_step(platform: str) -> Callable[..., tuple[Nats, dict[str, Array]]]:
    return jax.jit(
        eval_step,
        static_argnames=("model", "objective", "precision"),
        compiler_options=compiler_options("evaluation", platform) or None,
    )


def _unpadded(columns: dict[str, Array]) -> dict[str, np.ndarray]:
    """The columns on the host, without the padding."""
    host = to_host(columns)
    mask = host.pop("mask").astype(bool)
    return {name: values[mask] for name, values in host.items()}


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _where(mask: Array, x: Array) -> Array:
    """Rows of `x` where the mask is True, zeros elsewhere."""
    return jnp.where(mask.reshape(-1, *(1,) * (x.ndim - 1)), x, jnp.zeros_like(x))
