"""Options that XLA compiles a program with: those that this version of it knows."""

from collections.abc import Mapping

import jax

Options = Mapping[str, bool | int | str]

# LLVM prefers vectors of 256 bits, even where a CPU has longer ones. Where it has none, no
# program is any different.
WIDE_VECTORS: Options = {"xla_cpu_prefer_vector_width": "512"}


def known_options(options: Options) -> dict[str, bool | int | str]:
    """Those of `options` that XLA accepts here; a program is no different without the others."""
    known = {}
    for name, value in options.items():
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except jax.errors.JaxRuntimeError:
            continue
        known[name] = value
    return known
