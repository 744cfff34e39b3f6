"""How tests compile: quickly, or as everywhere else."""

import contextlib
import sys

import jax

try:  # no setting that JAX documents reaches every program of a process
    from jax._src.compiler import get_compile_options
except ImportError:  # then tests take longer
    get_compile_options = None

# Thousands of small programs that run for milliseconds: nearly all of the time is LLVM's and
# MLIR's. These options, added to every program's own, leave a third of it.
QUICK = {
    "xla_backend_optimization_level": 0,  # the samplers' own is 2
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


def _known(options):
    """Those that this version of XLA knows; without the others tests only take longer."""
    for name, value in options.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
            yield name, value


def compile_quickly():
    """Every program of this process from now on, but for those inside `optimized`."""
    jax.config.update("jax_disable_most_optimizations", True)
    if get_compile_options is None:
        return
    quick = list(_known(QUICK))

    def quickly(*args, **kwargs):
        options = get_compile_options(*args, **kwargs)
        if jax.config.read("jax_disable_most_optimizations"):
            options.env_option_overrides = [*options.env_option_overrides, *quick]
        return options

    sys.modules[get_compile_options.__module__].get_compile_options = quickly


@contextlib.contextmanager
def optimized():
    """Compile as everywhere but in these tests."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
