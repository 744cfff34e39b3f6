"""experiments.benchmarks.gradient_variance: moments that are right, estimators that agree."""

import json

import chex
import jax
import numpy as np
import pytest

from experiments.benchmarks import gradient_variance
from gen_jax import likelihoods, models, objectives
from tests.cases import perturbed, some_images

MODEL = models.VAE((2, 2, 1), likelihoods.Bernoulli(), num_latents=2, hidden=(3,))


def moments(method, num_samples, repeats, seed=0):
    variables, images = perturbed(MODEL), some_images(MODEL, 3)
    return gradient_variance.gradient_moments(
        MODEL,
        variables["params"],
        jax.random.key(seed),
        images,
        None,
        method,
        num_samples,
        repeats,
        np.float32(-3.0),
    )


def test_moments_are_those_of_the_gradients():
    method = gradient_variance.Method("reparametrized", "none")
    found = moments(method, 2, 9)
    variables, images = perturbed(MODEL), some_images(MODEL, 3)

    def bound(encoder, key):
        variables_ = {"params": {**variables["params"], "encoder": encoder}}
        return objectives.elbo(MODEL, variables_, key, images, num_samples=2).mean()

    gradient = jax.jit(jax.vmap(jax.grad(bound), (None, 0)))
    keys = jax.random.split(jax.random.key(0), 9)
    stacked = jax.device_get(gradient(variables["params"]["encoder"], keys))
    for moment, expected in (
        (found.mean, jax.tree.map(lambda x: x.mean(axis=0), stacked)),
        (found.variance, jax.tree.map(lambda x: x.var(axis=0, ddof=1), stacked)),
    ):
        chex.assert_trees_all_close(moment, expected, rtol=1e-3, atol=1e-6)


def test_all_estimators_have_one_mean_and_reparametrization_the_least_variance():
    repeats = 20_000
    found = {
        m: moments(m, 4, repeats, seed=i) for i, m in enumerate(gradient_variance.methods(MODEL))
    }
    assert len(found) == 4
    first = next(iter(found.values()))
    for method, other in found.items():
        for a, b, va, vb in zip(
            *map(jax.tree.leaves, (first.mean, other.mean, first.variance, other.variance)),
            strict=True,
        ):
            error = np.sqrt((np.asarray(va) + np.asarray(vb)) / repeats)
            np.testing.assert_array_less(abs(a - b), 5 * error + 1e-5, err_msg=method.name)
        if other is not first:
            assert first.total_variance < other.total_variance / 2, method.name


def test_more_codes_vary_less():
    method = gradient_variance.Method("reparametrized", "none")
    ratio = moments(method, 1, 4000).total_variance / moments(method, 8, 4000).total_variance
    assert ratio == pytest.approx(8, rel=0.2)


def test_writes_a_table_and_a_plot(tiny_vae_run, capsys):
    gradient_variance.main(
        [str(tiny_vae_run), "--num-samples", "1", "2", "--repeats=3", "--batch-size=2"]
    )
    assert "leave-one-out" in capsys.readouterr().out
    result = json.loads((tiny_vae_run / "gradient-variance.json").read_text())
    assert len(result["rows"]) == 7
    assert all(row["variance"] > 0 for row in result["rows"])
    assert (tiny_vae_run / "gradient-variance.png").stat().st_size > 1000
