"""Which parameters a model has, and whether those given are they."""

import functools
import weakref
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gen_jax import checks
from gen_jax.models.shared.protocol import (
    Model,
    check_dtype,
    has_float64,
    takes_labels,
    traits,
    unbound,
)
from gen_jax.typing import Variables


def check_variables(model: Model, variables: Variables) -> None:
    """ValueError that names the first parameter which is not of this model, or of another shape.

    Flax says less, and of parameters that a model does not read nothing.
    """
    check_dtype(model)
    expected = abstract_variables(model)
    if expected is None:
        return
    # What else `init` gives may be needed or not, such as what a layer sows: Flax knows.
    if isinstance(variables, Mapping) and "params" in variables:
        variables = {"params": variables["params"]}
    expected = {name: tree for name, tree in expected.items() if name == "params"}
    # Mostly they are right, which is seen in a hundredth of the time that an image takes to draw.
    (leaves, form), (wanted, right_form) = jax.tree.flatten(variables), jax.tree.flatten(expected)
    if form != right_form or [getattr(x, "shape", ()) for x in leaves] != [x.shape for x in wanted]:
        checks.same_shapes(variables, expected, type(model).__name__)


def abstract_variables(model: Model) -> Variables | None:
    """What `init` gives, as shapes. None for a model of one's own that has another `init`."""
    model = unbound(model)
    try:
        return _abstract_variables(model, has_float64())
    except TypeError:  # a field that is an array has no hash
        return _abstract_variables.__wrapped__(model, has_float64())


@functools.lru_cache(maxsize=256)
def _abstract_variables(model: Model, has_float64: bool) -> Variables | None:
    del has_float64
    images = jax.ShapeDtypeStruct((1, *traits(model).image_shape), jnp.int32)
    labels = (jax.ShapeDtypeStruct((1,), jnp.int32),) if takes_labels(model) else ()
    try:
        return jax.eval_shape(model.init, jax.random.key(0), images, *labels)
    except Exception:
        return None


class _Checked(NamedTuple):
    """What `check_parameters` looked at last."""

    model: Model | None
    """Whose parameters they were; None: nothing yet."""
    form: object
    """Its PyTreeDef."""
    leaves: list[weakref.ref[jax.Array]]
    """By weak references, so that it keeps no parameters alive."""


_last_checked = _Checked(None, None, [])


def check_parameters(model: Model, variables: Variables) -> bool:
    """`check_variables`, and NonFiniteError where they are not finite. Whether any is traced.

    Those of the call before are known, since arrays of JAX do not change.
    """
    global _last_checked
    model = unbound(model)
    leaves, form = jax.tree.flatten(variables)
    last = _last_checked
    if (model, form) == (last.model, last.form) and all(
        seen() is leaf for seen, leaf in zip(last.leaves, leaves, strict=True)
    ):
        return False
    check_variables(model, variables)
    checks.finite(variables)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return True
    if all(isinstance(leaf, jax.Array) for leaf in leaves):
        _last_checked = _Checked(model, form, [weakref.ref(leaf) for leaf in leaves])
    return False
