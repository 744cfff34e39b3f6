"""Where arrays live: one mesh with one axis, data; the batch is split over it, the rest copied.

Everything that knows of devices is here and runs once, at the edge: the steps themselves are
pure functions that `jax.jit` spreads over the mesh.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gen_jax import memory, meshes
from gen_jax.precision import Precision, matmul_precision
from gen_jax.training import runtime_log
from gen_jax.training.objective import Objective
from gen_jax.training.state import (
    Batch,
    Module,
    OptimizerConfig,
    TrainState,
    Tree,
    init_state,
    make_optimizer,
    make_schedule,
)
from gen_jax.training.step import train_step
from gen_jax.typing import Array, Key, Levels
from gen_jax.xla import compiler_options

StepFunction = Callable[[TrainState, Batch, Key], tuple[TrainState, dict[str, Array]]]


def initialize_distributed() -> None:
    """Joins the processes of a cluster job (SLURM, Kubernetes, Open MPI, TPU pods); call first.

    If one of them dies, the others end within a minute, and say so in one line; for that what JAX's
    runtime logs goes through `runtime_log`. Raises ValueError where no cluster is found.
    """
    try:
        # The others learn of one that died, or that ended with an error, by these.
        jax.distributed.initialize(heartbeat_timeout_seconds=20, shutdown_timeout_seconds=60)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"there is no cluster to join: {reason} (jax.distributed.initialize); accepted: a job "
            "of SLURM, Kubernetes, Open MPI or TPU pods"
        ) from error
    runtime_log.install()


def make_mesh(devices: Sequence[object] | None = None) -> Mesh:
    """A mesh of `devices` (None: all of them, of all processes) along one axis, data."""
    devices = jax.devices() if devices is None else list(devices)
    # jax.make_mesh defaults to Explicit axes: see `gen_jax.meshes.data_mesh`.
    axis_types = (AxisType.Auto,)
    return jax.make_mesh((len(devices),), (meshes.AXIS,), axis_types=axis_types, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: Batch, mesh: Mesh) -> dict[str, Array]:
    """The batch split by examples over the mesh; each process gives its own.

    Raises ValueError if the examples cannot be split evenly.
    """
    size = len(next(iter(batch.values()))) * jax.process_count()
    check_batch_size(size, mesh)
    sharding = NamedSharding(mesh, PartitionSpec(meshes.AXIS))
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
        for name, value in batch.items()
    }


def check_batch_size(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
    """Raises ValueError unless every device gets as many examples of every micro-batch."""
    parts = mesh.size * accumulate
    if batch_size < 1 or batch_size % parts:
        micro = f" x {accumulate} micro-batches" if accumulate > 1 else ""
        raise ValueError(
            f"batch_size is {batch_size}; accepted, on {mesh.size} devices{micro}: multiples of "
            f"{parts}"
        )


def create_state(
    model: Module,
    optimizer: OptimizerConfig,
    num_steps: int,
    key: Key,
    mesh: Mesh,
    examples: Levels | None = None,
) -> TrainState:
    """A new state, copied to every device; `examples` as in `init_params`."""
    return _creator(model, optimizer, num_steps, mesh)(key, examples)


def abstract_state(
    model: Module, optimizer: OptimizerConfig, num_steps: int, mesh: Mesh
) -> TrainState:
    """The shapes, dtypes and shardings of `create_state`, with nothing computed."""
    return jax.eval_shape(_creator(model, optimizer, num_steps, mesh), jax.random.key(0), None)


def check_memory(abstract: TrainState, mesh: Mesh) -> None:
    """ValueError if a state like `abstract`, with its gradient, cannot fit the memory.

    The least that training needs: parameters, EMA, optimiser and gradient, on every device.
    """
    count = sum(x.size for x in jax.tree.leaves(abstract.params))
    leaves = [*jax.tree.leaves(abstract), *jax.tree.leaves(abstract.params)]
    needed = sum(x.size * x.dtype.itemsize for x in leaves)
    device = mesh.local_devices[0]
    if device.platform == "cpu":
        needed *= len(mesh.local_devices)  # in the one memory of the host
        available = memory.available()
    else:
        available = (device.memory_stats() or {}).get("bytes_limit")
    if available is not None and needed > available:
        raise ValueError(
            f"the model has {count:,} parameters, which with EMA, optimiser and gradient take "
            f"{needed / 2**30:,.1f} GiB; accepted: what fits the {available / 2**30:,.1f} GiB "
            "available"
        )


@functools.lru_cache(maxsize=8)
def _creator(
    model: Module, optimizer: OptimizerConfig, num_steps: int, mesh: Mesh
) -> Callable[[Key, Levels | None], TrainState]:
    create = functools.partial(init_state, model, make_optimizer(optimizer, num_steps))
    return jax.jit(create, out_shardings=replicated(mesh))


@functools.lru_cache(maxsize=8)
def compile_train_step(
    mesh: Mesh,
    *,
    model: Module,
    objective: Objective,
    optimizer: OptimizerConfig,
    num_steps: int,
    accumulate: int = 1,
    precision: Precision = "default",
) -> StepFunction:
    """`train_step` on the mesh, compiled at its first call; its metrics have learning_rate too.

    The state given to it is donated: its arrays are gone afterwards. Equal arguments give the
    same function, and so share its compilation.
    """
    schedule = make_schedule(optimizer, num_steps)
    transformation = make_optimizer(optimizer, num_steps)

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, dict[str, Array]]:
        learning_rate = schedule(state.step)
        with matmul_precision(precision):
            state, metrics = train_step(
                state,
                batch,
                key,
                model=model,
                objective=objective,
                optimizer=transformation,
                ema_decay=optimizer.ema_decay,
                accumulate=accumulate,
            )
        return state, {**metrics, "learning_rate": jnp.asarray(learning_rate)}

    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=replicated(mesh),
        compiler_options=compiler_options("training", mesh.devices.flat[0].platform) or None,
    )


def to_host(tree: Tree) -> Tree:
    """The arrays as NumPy arrays, whole on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True), tree)
