"""What the benchmarks share: compiling apart, timing, counting arithmetic, a matmul beside it."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import Float64

T = TypeVar("T")


def compile_call(
    function: Callable[..., Any], *arguments: Any, options: dict[str, Any] | None = None
) -> tuple[Callable[[], Any], float]:
    """The compiled function on these arguments, and the seconds that compiling took.

    `options` are XLA's.
    """
    arguments = jax.device_put(arguments)
    compiled, taken = timed(lambda: jax.jit(function).lower(*arguments).compile(options))
    return lambda: compiled(*arguments), taken


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """What the function gives, and the seconds that it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def seconds(call: Callable[[], Any]) -> float:
    """Wall-clock time of one call, its result ready."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Of `repeats` calls, after a warm-up."""
    seconds(call)
    return float(np.median([seconds(call) for _ in range(repeats)]))


def in_turn(*calls: Callable[[], Any], repeats: int) -> Float64[np.ndarray, "repeats calls"]:
    """Seconds of each call, one after the other, `repeats` times over, without a warm-up.

    What slows the machine down for a while slows them all down, so that ratios within a row hold.
    """
    return np.array([[seconds(call) for call in calls] for _ in range(repeats)])


@functools.cache
def large_matmul(size: int = 2048) -> tuple[Callable[[], Any], int]:
    """A matmul of float32 squares, and its floating-point operations: the rate to compare with."""
    square = np.ones((size, size), np.float32)
    call, _ = compile_call(jnp.matmul, square, square)
    return call, 2 * size**3


def bytes_per_second(size: int, repeats: int, options: dict[str, Any] | None = None) -> float:
    """The rate of reading an array of `size` bytes (1 GiB at most) again and again: a GEMV.

    `options` are XLA's.
    """
    num_columns = 1024
    num_rows = max(1, min(size, 2**30) // (4 * num_columns))
    times = max(1, 2**28 // (4 * num_rows * num_columns))
    matrix, vector = np.ones((num_rows, num_columns), np.float32), np.ones(num_columns, np.float32)

    def read(matrix: Any, vector: Any) -> Any:
        return jax.lax.fori_loop(
            0, times, lambda _, v: v + jnp.float32(1e-30) * jnp.sum(matrix @ v), vector
        )

    call, _ = compile_call(read, matrix, vector, options=options)
    return 4 * num_rows * num_columns * times / median_seconds(call, repeats)


def count_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Floating-point operations of the matmuls and convolutions, two a multiply-add.

    Bodies of scans are counted as often as they run (XLA's own analysis counts them once), closed
    taps of masked kernels as work. ValueError for a loop whose length is not known.
    """
    return jaxpr_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def jaxpr_flops(jaxpr: Jaxpr) -> int:
    """`count_flops` of what is traced already."""
    total = 0
    for equation in jaxpr.eqns:
        params, name = equation.params, equation.primitive.name
        shapes: list[Any] = [
            getattr(v.aval, "shape", ()) for v in (*equation.invars, *equation.outvars)
        ]
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            depth = math.prod(shapes[0][axis] for axis in contracted)
            total += 2 * depth * math.prod(shapes[-1])
        elif name == "conv_general_dilated":
            outputs = shapes[1][params["dimension_numbers"].rhs_spec[0]]
            total += 2 * math.prod(shapes[1]) // outputs * math.prod(shapes[-1])
        elif name == "while":
            raise ValueError(
                "function has a while loop, whose arithmetic cannot be counted beforehand; "
                "accepted: scans"
            )
        elif name == "cond":
            total += max(jaxpr_flops(branch.jaxpr) for branch in params["branches"])
        else:
            times = params["length"] if name == "scan" else 1
            total += times * sum(jaxpr_flops(inner) for inner in _inner(params))
    return total


def _inner(params: dict[str, Any]) -> list[Jaxpr]:
    values = [p.jaxpr if isinstance(p, ClosedJaxpr) else p for p in params.values()]
    return [value for value in values if isinstance(value, Jaxpr)]
