"""The settings of a run's training."""

import pytest

from gen_jax import training

from . import tiny


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 5.5), ("batch_size", True), ("keep", "2"), ("eval_every", 0), ("seed", 2**64)],
)
def test_a_wrong_training_field_is_named(name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name} is {value!r}; accepted: "):
        tiny.with_value(training.TrainConfig(), name, value).__post_init__()
