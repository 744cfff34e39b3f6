"""Options that XLA compiles a program with: those that this version of it knows."""

from collections.abc import Mapping

import jax

Options = Mapping[str, bool | int | str]

# XLA tells LLVM to prefer vectors of 256 bits, even where a CPU has longer ones. (Measured on one
# of AMD's Zen 5; where there are none of 512 bits, nothing is any different.)
WIDE_VECTORS: Options = {"xla_cpu_prefer_vector_width": "512"}


def known_options(options: Options, platform: str) -> dict[str, bool | int | str]:
    """Those of `options` that XLA accepts on a platform; the others only cost speed."""
    known = {}
    with jax.default_device(jax.local_devices(backend=platform)[0]):
        for name, value in options.items():
            try:
                jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
            except jax.errors.JaxRuntimeError:
                continue
            known[name] = value
    return known
