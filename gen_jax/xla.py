"""Options that XLA compiles a program with, by purpose and platform.

They are for speed; those of coding on a GPU are there so that two processes compute the same.
"""

import functools
from collections.abc import Mapping
from typing import Literal, TypeAlias

import jax

Purpose: TypeAlias = Literal["sampling", "coding", "training", "evaluation"]
"""What a program is for."""
Options: TypeAlias = Mapping[str, bool | int | str]

# XLA tells LLVM to prefer vectors of 256 bits, even where a CPU has longer ones. (Measured on one
# of AMD's Zen 5; where there are none of 512 bits, nothing is any different.)
_WIDE_VECTORS: Options = {"xla_cpu_prefer_vector_width": "512"}
# All kinds that YNNPACK takes over but convolutions: on some CPUs it is slow at the gradient of a
# kernel (gated-pixelcnn-mnist's step took 2.9 times as long on one, and 8 % less on another).
_YNN = ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("DOT", "REDUCE", "INDIVIDUAL_DOT"))

_SAMPLING: Options = {
    # Otherwise what a scan carries is copied where it need not be.
    "xla_cpu_copy_insertion_use_region_analysis": True,
    # It makes two programs of each sum: as long as the sum itself, where one image is drawn.
    "xla_disable_hlo_passes": "tree_reduction_rewriter",
    # At level 3 LLVM unrolls loops over 16 or 32 features whole, and then leaves them scalar.
    "xla_backend_optimization_level": 2,
    **_WIDE_VECTORS,
}
# One process must compute what another did: nothing is chosen by what is fastest in a trial, and
# nothing is summed in whatever order comes first.
_REPEATABLE: Options = {"xla_gpu_autotune_level": 0, "xla_gpu_deterministic_ops": True}

_OPTIONS: Mapping[tuple[str, str], Options] = {
    ("sampling", "cpu"): _SAMPLING,
    ("coding", "cpu"): _SAMPLING,
    ("coding", "gpu"): _REPEATABLE,
    ("training", "cpu"): {"xla_cpu_experimental_ynn_fusion_type": _YNN, **_WIDE_VECTORS},
    ("evaluation", "cpu"): _WIDE_VECTORS,
}


@functools.cache
def compiler_options(purpose: Purpose, platform: str) -> dict[str, bool | int | str]:
    """Options for `jax.jit(…, compiler_options=…)`, of an outermost jit; hardly any but on "cpu".

    Sampling, coding, training and evaluation use them by themselves. An option that this version of
    XLA does not know is left out: it only costs speed.
    """
    known: dict[str, bool | int | str] = {}
    options = _OPTIONS.get((purpose, platform), {})
    if not options:
        return known
    with jax.default_device(jax.local_devices(backend=platform)[0]):
        for name, value in options.items():
            try:
                jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
            except jax.errors.JaxRuntimeError:
                continue
            known[name] = value
    return known
