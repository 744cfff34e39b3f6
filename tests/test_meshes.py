"""Any mesh is one axis of devices."""

import jax

from gen_jax.meshes import data_mesh

from .cases import one_line_error


def test_any_mesh_is_one_axis_of_its_devices():
    two_axes = jax.make_mesh((2, 2), ("rows", "columns"))
    mesh = data_mesh(two_axes)
    assert mesh.axis_names == ("data",)
    assert mesh.devices.tolist() == two_axes.devices.reshape(-1).tolist()
    assert data_mesh(mesh) is mesh
    for wrong in (two_axes.abstract_mesh, jax.devices(), None, 2):
        with one_line_error("mesh is .*; accepted: a jax.sharding.Mesh of devices"):
            data_mesh(wrong)
