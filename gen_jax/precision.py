"""How exactly an accelerator multiplies float32 matrices: as JAX has it, or in float32.

On a CPU float32 is float32. Elsewhere JAX's default trades digits for speed: an NVIDIA GPU reads
the factors of matmuls and convolutions in TF32, 11 significant bits of 24, a TPU in bfloat16, 8
bits; sums are float32 all the same. Sampling, completing, training and
evaluation take a `precision`:

* sampling, completing and training have "default" by themselves, for speed. All methods draw the
  same images in the sense of `gen_jax.sampling` with "highest"; by default more sites differ, where
  their noise lies within the coarser rounding of a boundary.
* evaluation, by the scripts, by `gen_jax.training.evaluate` and in validation, has "highest": a
  number that is reported does not depend on the device.

What you compile yourself, such as a function of `gen_jax.objectives`, has JAX's default, but for
what is traced under `matmul_precision("highest")`. Two precisions are two programs, in JAX's cache
too. bfloat16 (a model's `dtype`) and float64 are not concerned.
"""

import contextlib
from typing import Literal, TypeAlias

import jax

from gen_jax import checks

Precision: TypeAlias = Literal["default", "highest"]
"""Matmuls and convolutions as `jax_default_matmul_precision` has them, or in all of float32."""


def matmul_precision(precision: Precision) -> contextlib.AbstractContextManager[object]:
    """What is traced inside has this precision; "default" leaves JAX's setting as it is.

    ValueError for another.
    """
    checks.choice("precision", precision, Precision)
    if precision == "default":
        return contextlib.nullcontext()
    return jax.default_matmul_precision("highest")
