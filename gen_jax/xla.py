"""Options that XLA compiles a program with: those that this version of it knows."""

from collections.abc import Mapping

import jax

Options = Mapping[str, bool | str]


def known_options(options: Options) -> dict[str, bool | str]:
    """Those of `options` that XLA accepts here; a program is no different without the others."""
    known = {}
    for name, value in options.items():
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except jax.errors.JaxRuntimeError:
            continue
        known[name] = value
    return known
