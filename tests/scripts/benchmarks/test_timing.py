"""experiments.benchmarks.timing: calls take turns; arithmetic is counted as it is done."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import timing
from gen_jax import likelihoods, models
from gen_jax.models.shared.parameters import abstract_variables


def test_calls_take_turns():
    """A row holds one run of each, in the order given; no run besides."""
    runs = []

    def call(name, pause):
        runs.append(name)
        time.sleep(pause)
        return jnp.zeros(1), name  # what is no array is not waited for

    times = timing.in_turn(lambda: call("a", 0.03), lambda: call("b", 0.0), repeats=3)
    assert runs == ["a", "b"] * 3
    assert times.shape == (3, 2)
    assert (times[:, 0] >= 0.03).all()
    assert np.median(times[:, 1]) < 0.03


def test_matmuls_and_convolutions_count_two_a_multiply_add():
    a, b = jnp.ones((3, 4, 5)), jnp.ones((3, 5, 7))
    assert timing.count_flops(jnp.matmul, a, b) == 2 * 3 * 4 * 5 * 7
    image, kernel = jnp.ones((2, 8, 9, 3)), jnp.ones((3, 2, 3, 5))

    def convolve(image, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=layout)

    assert timing.count_flops(convolve, image, kernel) == 2 * (2 * 8 * 9 * 5) * (3 * 2 * 3)


def test_the_body_of_a_scan_counts_as_often_as_it_runs():
    def function(x):
        step = jax.jit(lambda carry, _: (carry @ carry, None))
        return jax.lax.cond(x[0, 0] > 0, lambda: jax.lax.scan(step, x, length=11)[0], lambda: x)

    assert timing.count_flops(function, jnp.ones((4, 4))) == 11 * 2 * 4**3


def test_a_loop_of_unknown_length_cannot_be_counted():
    def function(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="while"):
        timing.count_flops(function, jnp.ones((2, 2)))


def test_a_model_costs_what_its_sizes_say():
    """Row LSTM by hand: each pixel's taps, gates, way back and head, over all pixels."""
    h, layers, head = 4, 3, 6
    model = models.RowLSTM(
        (5, 7, 1), likelihoods.Bernoulli(), features=h, num_layers=layers, head_features=head
    )
    images = jnp.zeros((2, 5, 7, 1), jnp.int32)
    variables = abstract_variables(model)
    taps = 4 * 7  # of the 7 × 7 kernel, the closed ones in the last row included
    pixel = taps * 2 * h
    pixel += layers * ((2 * 2 * h + 3 * h) * 4 * h + h * 2 * h)
    pixel += 2 * h * head + head * head + head * 1
    assert timing.count_flops(model.apply, variables, images) == 2 * pixel * 2 * 5 * 7
