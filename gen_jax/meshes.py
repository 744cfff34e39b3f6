"""The mesh that a batch is split over: any that a user makes, as one axis of devices."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gen_jax.typing import Array, PyTree

AXIS = "data"


def data_mesh(mesh: object) -> Mesh:
    """The devices of any mesh along one axis, data, which is Auto.

    JAX's own default, Explicit, would put shardings into the type of every array.
    """
    if not isinstance(mesh, Mesh) or mesh.empty:
        raise TypeError(
            f"mesh is {' '.join(repr(mesh).split())}; accepted: a jax.sharding.Mesh of devices"
        )
    if mesh.axis_names == (AXIS,) and mesh.axis_types == (AxisType.Auto,):
        return mesh
    return Mesh(mesh.devices.reshape(-1), (AXIS,), axis_types=(AxisType.Auto,))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """A copy of every array on each device; in a job of several processes all give the same."""
    whole = NamedSharding(mesh, PartitionSpec())

    def place(x: Array) -> Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                place(jax.random.key_data(x)), impl=jax.random.key_impl(x)
            )
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return jax.device_put(x, whole)
        return jax.make_array_from_process_local_data(whole, np.asarray(x))

    # `device_put` gives other processes' devices neither keys nor what lies on one device.
    return jax.tree.map(place, tree) if mesh.is_multi_process else jax.device_put(tree, whole)


def in_force(mesh: Mesh | None) -> contextlib.AbstractContextManager[object]:
    """`mesh` in place of one that `jax.set_mesh` has put in force; for use outside of a jit."""
    if mesh is None or jax.sharding.get_abstract_mesh().empty:
        return contextlib.nullcontext()
    return jax.set_mesh(mesh)


def check_context(mesh: Mesh | None) -> None:
    """ValueError inside a jit under another mesh that is in force, which cannot be replaced."""
    context = jax.sharding.get_abstract_mesh()
    if mesh is not None and not context.empty and context != mesh.abstract_mesh:
        raise ValueError(
            f"mesh has {mesh.size} devices along one axis, but inside this jit a mesh of axes "
            f"{context.axis_names} is in force; accepted: no mesh here, or a call outside of jit"
        )
