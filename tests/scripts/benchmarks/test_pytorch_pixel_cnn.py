"""What PyTorch is timed on is the same model, and its two samplers draw the same images."""

import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest

from gen_jax import likelihoods, models
from tests.cases import perturbed

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def both():
    from experiments.benchmarks import pytorch_pixel_cnn as theirs

    sizes: Any = {"features": 4, "num_layers": 3, "kernel_size": 3, "first_kernel_size": 5}
    model = models.GatedPixelCNN((5, 6, 1), likelihoods.Bernoulli(), **sizes)
    variables = perturbed(model)
    module = theirs.load(theirs.GatedPixelCNN(**sizes), variables["params"]).eval()
    return theirs, module, functools.partial(jax.jit(model.apply), variables)


def test_the_module_is_the_model(both):
    _, module, apply = both
    images = np.random.default_rng(0).integers(0, 2, (3, 5, 6, 1), np.int32)
    with torch.inference_mode():
        logits = module(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    np.testing.assert_allclose(logits[:, 0], apply(images)[..., 0, 0], atol=1e-5)


def test_its_samplers_draw_what_the_model_says(both):
    """Each pixel from the finished image's logits; the cached one twice, from what is left over."""
    theirs, module, apply = both
    cached = theirs.CachedSampler(module, 4, 5, 6, "cpu")
    passes = functools.partial(theirs.draw_by_passes, module)
    for seed, sampler in itertools.product((0, 1), (cached, passes)):
        noise = np.random.default_rng(seed).random((4, 5, 6), np.float32)
        images = sampler(torch.from_numpy(noise)).numpy()
        logits = np.asarray(apply(images[..., None].astype(np.int32)))[..., 0, 0]
        np.testing.assert_array_equal(images, noise < 1 / (1 + np.exp(-logits)))
        assert 0.1 < images.mean() < 0.9
