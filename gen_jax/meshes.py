"""The mesh that a batch is split over: any that a user makes, as one axis of devices."""

import contextlib

import jax
from jax.sharding import AxisType, Mesh

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
