"""A run starts from the weights of another."""

import signal

import jax
import pytest

import gen_jax
from gen_jax import training
from gen_jax.training.workdir import Workdir

from . import tiny

pytestmark = pytest.mark.usefixtures("as_from_a_terminal")


def test_a_run_starts_from_the_weights_of_another(reference, tmp_path):
    with pytest.raises(
        ValueError, match=r"bias is float32\[4\]; accepted: float32\[6\], as here$"
    ) as error:
        tiny.train(tmp_path, init_from=reference, model=tiny.MODEL.clone(features=6))
    assert "\n" not in str(error.value)
    assert not any(tmp_path.iterdir())
    tiny.train(tmp_path, init_from=reference, on_sample=tiny.signalled(signal.SIGTERM, 1))
    # Adam's first step, of the warm-up, is not larger than the rate.
    rate = 1.01 * tiny.OPTIMIZER.learning_rate / tiny.OPTIMIZER.warmup_steps
    there, here = (jax.tree.leaves(gen_jax.load(path)[1]) for path in (reference, tmp_path))
    assert max(float(abs(a - b).max()) for a, b in zip(there, here, strict=True)) <= rate
    record = Workdir(tmp_path).read()["init_from"]
    assert (record["run"], record["step"]) == (str(reference), training.resolve_step(reference))
    with pytest.raises(ValueError, match=r"init_from is \{.* there, None here"):
        tiny.train(tmp_path)
    (reference / "run.json").rename(reference / "away")  # it is not needed any more
    try:
        assert tiny.train(tmp_path, init_from=reference).finished
    finally:
        (reference / "away").rename(reference / "run.json")
    # Begun over again, it starts from them again.
    again = {"init_from": reference, "overwrite": True}
    tiny.train(tmp_path, **again, on_sample=tiny.signalled(signal.SIGTERM, 1))
    here = jax.tree.leaves(gen_jax.load(tmp_path)[1])
    assert max(float(abs(a - b).max()) for a, b in zip(there, here, strict=True)) <= rate
