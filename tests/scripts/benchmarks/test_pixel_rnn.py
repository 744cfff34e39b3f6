"""experiments.benchmarks.pixel_rnn: both sides compute the same."""

import functools

import jax
import numpy as np
import pytest

from experiments.benchmarks import pixel_rnn
from gen_jax import likelihoods, models
from tests.cases import perturbed, some_images, whole_image_params
from tests.scripts.conftest import command


@pytest.mark.parametrize("size", [(5, 4), (3, 6)], ids=str)
@pytest.mark.parametrize("name", pixel_rnn.PLAIN)
def test_the_transcription_gives_the_models_numbers(name, size):
    model = models.MODELS[name](
        (*size, 1), likelihoods.Categorical(3), features=5, num_layers=2, first_kernel_size=3
    )
    variables, images = perturbed(model), some_images(model, 3)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        plain = jax.jit(functools.partial(pixel_rnn.PLAIN[name], model))(
            variables["params"], images
        )
    ours = whole_image_params(model, variables, images, None).reshape(plain.shape)
    np.testing.assert_allclose(plain, ours, atol=1e-5)


def test_prints_a_ratio():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        result = command("benchmarks.pixel_rnn", "row-lstm-digits", "--batch-size=2", "--repeats=1")
    assert result.returncode == 0, result.stderr
    assert "plain / pass" in result.stdout
