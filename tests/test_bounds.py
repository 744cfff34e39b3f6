"""Bounds of log p(x) against quadrature and closed forms, their gradients against enumeration."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_jax import models, objectives, training
from gen_jax.models.shared.latent import DiagonalGaussian, IndependentBernoulli
from tests.cases import (
    one_line_error,
    perturbed,
    some_images,
)
from tests.compilation import optimized
from tests.vaes import (
    BERNOULLI,
    LinearGaussian,
    UnitGaussian,
    every_binary,
    mean_and_error,
    over_keys,
    vae,
)

# Bounds.


def log_p_by_quadrature(model, variables, images):
    """log ∫ p(z) p(x | z) dz of a one-dimensional code."""
    grid = np.linspace(-9, 9, 3001)
    codes = jnp.broadcast_to(jnp.asarray(grid)[:, None, None], (len(grid), len(images), 1))
    fit = np.asarray(objectives.reconstruction(model, variables, codes, images))
    joint = fit + scipy.stats.norm.logpdf(grid)[:, None]
    return np.log(np.trapezoid(np.exp(joint), grid, axis=0))


def test_the_bounds_tighten_towards_log_p(x64):
    model = vae(dtype="float64")
    variables, images = perturbed(model, 1), some_images(model, 3)
    exact = log_p_by_quadrature(model, variables, images)
    assert np.allclose(
        np.exp(log_p_by_quadrature(model, variables, every_binary(2, 2))).sum(), 1, atol=1e-9
    )
    means, errors = {}, {}
    for k in (1, 2, 4, 8, 64):
        values = over_keys(
            lambda key, k=k: objectives.iwae_bound(model, variables, key, images, num_samples=k),
            4000,
            seed=k,
        )
        means[k], errors[k] = mean_and_error(values)
    elbo, error = mean_and_error(
        over_keys(lambda key: objectives.elbo(model, variables, key, images), 4000)
    )
    assert (exact - elbo > 0.02).all(), "a gap to speak of"
    assert (elbo + 4 * error < exact).all()
    np.testing.assert_array_less(abs(elbo - means[1]), 4 * (error + errors[1]))
    for k, more in itertools.pairwise(means):
        assert (means[k] <= means[more] + 4 * (errors[k] + errors[more])).all()
        assert (means[k] <= exact + 4 * errors[k]).all()
    assert (exact - means[64] < (exact - means[1]) / 8).all()


def test_a_linear_gaussian_vae_has_its_closed_form(x64):
    exact_q = LinearGaussian((2, 2, 1), UnitGaussian(), num_latents=2, dtype="float64")
    bound = exact_q.bind({})
    covariance = np.asarray(bound.matrix @ bound.matrix.T) + 0.7**2 * np.eye(4)
    images = some_images(exact_q, 5)
    expected = scipy.stats.multivariate_normal(np.asarray(bound.offset), covariance).logpdf(
        np.asarray(images).reshape(5, 4)
    )
    key = jax.random.key(0)
    # Where q is the posterior, log p(x, z) - log q(z | x) is log p(x) for every z.
    sampled = objectives.elbo(exact_q, {}, key, images, num_samples=3, kl="monte_carlo")
    np.testing.assert_allclose(sampled, expected, rtol=1e-10)
    tight = objectives.iwae_bound(exact_q, {}, key, images, num_samples=4)
    np.testing.assert_allclose(tight, expected, rtol=1e-10)
    mean, error = mean_and_error(
        over_keys(lambda key: objectives.elbo(exact_q, {}, key, images), 4000)
    )
    np.testing.assert_array_less(abs(mean - expected), 4 * error)
    # The bound misses log p(x) by KL(q || posterior), here of two Gaussians a shift apart.
    shifted = exact_q.clone(shift=0.3)
    precision = 1 + np.sum(np.asarray(bound.matrix) ** 2, axis=0) / 0.7**2
    gap = 0.5 * 0.3**2 * precision.sum()
    mean, error = mean_and_error(
        over_keys(lambda key: objectives.elbo(shifted, {}, key, images), 4000)
    )
    np.testing.assert_array_less(abs(expected - gap - mean), 4 * error)
    iwae = over_keys(
        lambda key: objectives.iwae_bound(shifted, {}, key, images, num_samples=500), 50
    )
    np.testing.assert_allclose(iwae.mean(axis=0), expected, atol=0.05)


@pytest.mark.parametrize("latents", ["gaussian", "bernoulli"])
def test_iwae_in_chunks_is_one_logsumexp(latents, x64):
    model = vae((3, 2, 1), 3, latents=latents, dtype="float64")
    variables, images, key = perturbed(model), some_images(model, 4), jax.random.key(3)

    def at_once(variables):
        posterior = model.apply(variables, images, method="encode")
        if latents == "bernoulli":
            posterior = jax.lax.stop_gradient(posterior)
        keys = [jax.random.fold_in(key, i) for i in range(3)]
        codes = jnp.concatenate([posterior.sample(k, 4) for k in keys])[:10]
        weights = objectives.reconstruction(model, variables, codes, images) + jnp.sum(
            posterior.prior_log_prob(codes) - posterior.log_prob(codes), axis=-1
        )
        return jax.nn.logsumexp(weights, axis=0) - math.log(10)

    def in_chunks(variables):
        return objectives.iwae_bound(model, variables, key, images, num_samples=10, chunk_size=4)

    np.testing.assert_allclose(in_chunks(variables), at_once(variables), rtol=1e-12)
    ours, expected = (
        jax.grad(lambda v, bound=bound: jnp.sum(bound(v)))(variables)
        for bound in (in_chunks, at_once)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), ours, expected)
    single = objectives.iwae_bound(model, variables, key, images, num_samples=1)
    elbo = objectives.elbo(model, variables, key, images, kl="monte_carlo")
    np.testing.assert_allclose(single, elbo, rtol=1e-12)


def test_chunks_bound_the_memory_of_many_samples():
    """Of the bound, and of its gradient."""
    model = vae((28, 28, 1), 50, (200, 200))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1), jnp.int32))
    images = jax.ShapeDtypeStruct((100, 28, 28, 1), jnp.int32)

    def memory(num_samples, transformation):
        def bound(v, x):
            bounds = objectives.iwae_bound(
                model, v, jax.random.key(0), x, num_samples=num_samples, chunk_size=10
            )
            return jnp.sum(bounds)

        compiled = jax.jit(transformation(bound)).lower(shapes, images).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    with optimized():
        for transformation in (lambda f: f, jax.grad):
            few, many = memory(50, transformation), memory(5000, transformation)
            assert many <= few + 495 * 1e4  # a running sum for each further chunk; activations: 4e6
            assert many < 100e6


@pytest.mark.skipif(jax.device_count() < 4, reason="fewer than four devices")
def test_codes_stay_on_the_device_of_their_image():
    model = vae((4, 4, 1), 2, (8,))
    variables, images = perturbed(model), some_images(model, 8)
    rows = jax.sharding.NamedSharding(training.make_mesh(), jax.sharding.PartitionSpec("data"))

    def loss(v, x):
        bound = objectives.iwae_bound(model, v, jax.random.key(0), x, num_samples=5)
        return jnp.mean(bound)

    with optimized():
        compiled = jax.jit(jax.grad(loss)).lower(variables, jax.device_put(images, rows)).compile()
    assert "all-reduce" in compiled.as_text()
    assert "all-gather" not in compiled.as_text()


def test_labels_belong_to_their_image():
    model = vae((2, 2, 1), 2, num_classes=3)
    variables, images, labels = perturbed(model), some_images(model, 3), jnp.asarray([2, 0, 1])
    codes = jax.random.normal(jax.random.key(0), (4, 3, 2))
    together = objectives.reconstruction(model, variables, codes, images, labels)
    for i in range(3):
        alone = objectives.reconstruction(
            model, variables, codes[:, i : i + 1], images[i : i + 1], labels[i : i + 1]
        )
        np.testing.assert_allclose(together[:, i], alone[:, 0], rtol=1e-5)


# Posteriors.


@pytest.mark.parametrize("latents", ["gaussian", "bernoulli"])
def test_the_closed_form_of_the_divergence_is_what_sampling_gives(latents):
    rng = np.random.default_rng(0)
    numbers = jnp.asarray(rng.normal(0, 1, (2, 3, 5)), jnp.float32)
    posterior = DiagonalGaussian(*numbers) if latents == "gaussian" else None
    posterior = posterior or IndependentBernoulli(numbers[0])
    codes = posterior.sample(jax.random.key(0), 40_000)
    assert codes.shape == (40_000, 3, 5)
    sampled = np.asarray(posterior.log_prob(codes) - posterior.prior_log_prob(codes))
    mean, error = mean_and_error(sampled)
    np.testing.assert_array_less(abs(mean - posterior.kl()), 4.5 * error)
    np.testing.assert_allclose(codes.mean(axis=0), posterior.mean(), atol=0.05)


def test_densities_are_those_of_scipy():
    rng = np.random.default_rng(0)
    mean, log_scale, codes = jnp.asarray(rng.normal(size=(3, 4, 3)), jnp.float32)
    np.testing.assert_allclose(
        DiagonalGaussian(mean, log_scale).log_prob(codes),
        scipy.stats.norm(mean, np.exp(log_scale)).logpdf(codes),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        DiagonalGaussian.prior_log_prob(codes), scipy.stats.norm.logpdf(codes), rtol=1e-5
    )
    bits = (codes > 0).astype(jnp.float32)
    np.testing.assert_allclose(
        IndependentBernoulli(mean).log_prob(bits),
        scipy.stats.bernoulli(1 / (1 + np.exp(-np.asarray(mean, np.float64)))).logpmf(bits),
        rtol=1e-4,
    )


def test_saturated_bits_stay_finite():
    posterior = IndependentBernoulli(jnp.asarray([-200.0, 200.0]))
    np.testing.assert_allclose(posterior.kl(), math.log(2), rtol=1e-6)
    assert np.isfinite(posterior.log_prob(jnp.asarray([[1.0, 0.0]]))).all()


# Gradients.


def enumerated_elbo(model, variables, images):
    """The exact expectation over all codes of bits, per image."""
    codes = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=model.num_latents)))
    codes = jnp.broadcast_to(codes[:, None], (len(codes), len(images), model.num_latents))
    codes = codes.astype(model.dtype)
    posterior = model.apply(variables, images, method="encode")
    fit = objectives.reconstruction(model, variables, codes, images)
    weights = jnp.exp(jnp.sum(posterior.log_prob(codes), axis=-1))
    return jnp.sum(weights * fit, axis=0) - jnp.sum(posterior.kl(), axis=-1)


def gradients(model, variables, images, count, **settings):
    """Flat gradients of the mean bound, [count, parameters]."""

    def one(key):
        def bound(variables):
            terms = objectives.elbo_terms(model, variables, key, images, **settings)
            return jnp.mean(terms.elbo)

        return jax.flatten_util.ravel_pytree(jax.grad(bound)(variables))[0]

    return over_keys(one, count)


@pytest.mark.parametrize("kl", ["analytic", "monte_carlo"])
@pytest.mark.parametrize("baseline", ["none", "constant", "leave_one_out"])
def test_the_score_function_is_unbiased(baseline, kl, x64):
    model = vae((1, 2, 1), 2, (3,), latents="bernoulli", dtype="float64")
    variables, images = perturbed(model), some_images(model, 2)
    exact = jax.grad(lambda v: jnp.mean(enumerated_elbo(model, v, images)))(variables)
    exact = np.asarray(jax.flatten_util.ravel_pytree(exact)[0])
    mean, error = mean_and_error(
        gradients(
            model,
            variables,
            images,
            20_000,
            num_samples=3,
            kl=kl,
            estimator="score_function",
            baseline=baseline,
            constant=jnp.asarray(-1.3, jnp.float32),
        )
    )
    assert np.abs(exact).max() > 0.05
    np.testing.assert_array_less(abs(mean - exact), 5 * error + 1e-12)


@pytest.mark.parametrize("kl", ["analytic", "monte_carlo"])
def test_beta_and_free_bits_weigh_the_gradient_of_every_estimator(kl, x64):
    model = vae((1, 2, 1), 2, (3,), latents="bernoulli", dtype="float64")
    variables, images = perturbed(model), some_images(model, 2)
    found = {}
    for beta, free in ((4.0, 0.0), (1.0, 100.0)):
        target = training.ELBO(
            3, kl, beta, free, estimator="score_function", baseline="leave_one_out"
        )

        def exact(v, beta=beta, free=free):
            posterior = model.apply(v, images, method="encode")
            divergence = jnp.sum(posterior.kl(), axis=-1)
            weight = 0.0 if free else beta
            return jnp.mean(enumerated_elbo(model, v, images) + (1 - weight) * divergence)

        def one(key, target=target):
            def value(v):
                return jnp.mean(target(model, v, {"images": images}, key)[0])

            return jax.flatten_util.ravel_pytree(jax.grad(value)(variables))[0]

        expected = np.asarray(jax.flatten_util.ravel_pytree(jax.grad(exact)(variables))[0])
        mean, error = mean_and_error(over_keys(one, 20_000))
        np.testing.assert_array_less(abs(mean - expected), 5 * error + 1e-12)
        found[beta] = expected
    assert np.linalg.norm(found[4.0] - found[1.0]) > 0.1


def test_straight_through_is_another_gradient_and_baselines_calm(x64):
    model = vae((1, 2, 1), 2, (3,), latents="bernoulli", dtype="float64")
    variables, images = perturbed(model), some_images(model, 2)
    exact = jax.grad(lambda v: jnp.mean(enumerated_elbo(model, v, images)))(variables)
    exact = np.asarray(jax.flatten_util.ravel_pytree(exact)[0])
    common = {"num_samples": 4}
    through = gradients(model, variables, images, 5000, estimator="straight_through", **common)
    mean, error = mean_and_error(through)
    assert (abs(mean - exact) > 8 * error + 1e-12).any(), "it is biased"
    assert np.dot(mean, exact) > 0.8 * np.linalg.norm(mean) * np.linalg.norm(exact)
    plain, calm = (
        gradients(
            model, variables, images, 5000, estimator="score_function", baseline=baseline, **common
        )
        for baseline in ("none", "leave_one_out")
    )
    assert calm.var(axis=0).sum() < plain.var(axis=0).sum() / 2


def test_gradients_of_a_gaussian_code_agree_and_reparametrization_varies_less(x64):
    model = vae((2, 2, 1), 2, (3,), dtype="float64")
    variables, images = perturbed(model), some_images(model, 2)
    found = {
        estimator: gradients(model, variables, images, 20_000, estimator=estimator)
        for estimator in ("reparametrized", "score_function")
    }
    (mean, error), (other, other_error) = (mean_and_error(x) for x in found.values())
    assert np.abs(mean).max() > 0.05
    np.testing.assert_array_less(abs(mean - other), 5 * np.hypot(error, other_error) + 1e-12)
    variances = {name: values.var(axis=0).sum() for name, values in found.items()}
    assert variances["reparametrized"] < variances["score_function"] / 4


def test_the_estimator_leaves_the_value():
    model = vae((3, 2, 1), 3)
    variables, images, key = perturbed(model), some_images(model, 4), jax.random.key(0)
    values = [
        objectives.elbo_terms(
            model, variables, key, images, None, 4, estimator=estimator, baseline=baseline
        )
        for estimator, baseline in (
            ("reparametrized", "none"),
            ("score_function", "none"),
            ("score_function", "leave_one_out"),
        )
    ]
    for other in values[1:]:
        np.testing.assert_allclose(other.elbo, values[0].elbo, rtol=1e-5)


def test_iwae_gradient_is_that_of_its_definition(x64):
    model = vae((2, 2, 1), 2, dtype="float64")
    variables, images, key = perturbed(model), some_images(model, 3), jax.random.key(0)

    def defined(variables):
        posterior = model.apply(variables, images, method="encode")
        loc, scale = posterior.loc[None], jnp.exp(posterior.log_scale)[None]
        noise = jax.lax.stop_gradient((posterior.sample(key, 5) - loc) / scale)
        codes = loc + scale * noise
        params = jax.vmap(lambda z: model.apply(variables, z, method="decode"))(codes)
        fit = jax.vmap(lambda p: BERNOULLI.log_prob(p, images))(params).sum(axis=(2, 3, 4))
        normal = jax.scipy.stats.norm.logpdf
        ratio = normal(codes) - normal(noise) + jnp.log(scale)
        return jnp.mean(jnp.log(jnp.mean(jnp.exp(fit + ratio.sum(axis=-1)), axis=0)))

    ours = jax.grad(
        lambda v: jnp.mean(objectives.iwae_bound(model, v, key, images, num_samples=5))
    )(variables)
    expected = jax.grad(defined)(variables)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)


# What training makes large.


def target_values(target, model, variables, images, **running):
    values = {"params": variables["params"], "running": running or {"nats": jnp.zeros(())}}
    return target(model, values, {"images": images}, jax.random.key(0))


def test_beta_weighs_and_free_bits_spare_the_divergence():
    model = vae((3, 3, 1), 3)
    variables, images = perturbed(model), some_images(model, 6)
    plain, terms = target_values(training.ELBO(), model, variables, images)
    assert set(terms) == {"reconstruction", "kl", "kl_per_latent"}
    assert terms["kl_per_latent"].shape == (6, 3)
    np.testing.assert_allclose(terms["kl"], terms["kl_per_latent"].sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(plain, terms["reconstruction"] - terms["kl"], rtol=1e-6)
    heavy, _ = target_values(training.ELBO(beta=3.0), model, variables, images)
    np.testing.assert_allclose(heavy, terms["reconstruction"] - 3 * terms["kl"], rtol=1e-6)
    means = np.asarray(terms["kl_per_latent"]).mean(axis=0)
    free = float(np.sort(means)[:2].mean())  # one latent below, two above
    spared, _ = target_values(training.ELBO(free_bits=free), model, variables, images)
    expected = np.mean(terms["reconstruction"]) - np.maximum(means, free).sum()
    np.testing.assert_allclose(spared.mean(), expected, rtol=1e-5)
    # All latents spared: the divergence has no gradient left.
    with_terms, without = (
        jax.grad(lambda v, t=t: jnp.mean(target_values(t, model, v, images)[0]))(variables)
        for t in (training.ELBO(free_bits=100.0), training.ELBO(beta=0.0))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), with_terms, without)


def test_the_running_mean_is_the_constant_baseline():
    model = vae((2, 2, 1), 3, latents="bernoulli")
    variables, images = perturbed(model), some_images(model, 4)
    target = training.ELBO(estimator="score_function", baseline="constant")

    def gradient(nats):
        def value(v):
            return jnp.mean(target_values(target, model, v, images, nats=jnp.float32(nats))[0])

        return jax.flatten_util.ravel_pytree(jax.grad(value)(variables))[0]

    near, far = gradient(-2.5), gradient(-100.0)
    assert jnp.linalg.norm(far) > 5 * jnp.linalg.norm(near)


def test_every_objective_says_which_model_it_is_for():
    gaussian, bits = vae(), vae(latents="bernoulli")
    plain = models.AutoEncoder((2, 2, 1), BERNOULLI)
    with one_line_error("for a VAE, not AutoEncoder"):
        training.ELBO().check(plain)
    with one_line_error("for discrete latents: score_function or straight_through"):
        training.ELBO().check(bits)
    with one_line_error("for real latents: reparametrized or score_function"):
        training.ELBO(estimator="straight_through").check(gaussian)
    with one_line_error("with the baseline leave_one_out: 2 or more"):
        training.ELBO(estimator="score_function", baseline="leave_one_out").check(gaussian)
    with one_line_error("baseline is .*; accepted, by the estimator .*: none"):
        training.ELBO(baseline="constant").check(gaussian)
    with one_line_error("does not pass through bits"):
        training.IWAE().check(bits)
    with one_line_error("for an autoregressive model, not VAE"):
        training.LogLikelihood().check(gaussian)
    for beta in (-1.0, math.inf):
        with one_line_error(f"beta is {beta}"):
            training.ELBO(beta=beta)
    training.ELBO(estimator="score_function").check(gaussian)
    training.Reconstruction().check(plain)


def test_objectives_survive_json():
    for target in (training.ELBO(3, beta=0.5), training.IWAE(7), training.LogLikelihood()):
        assert training.target_from_dict(training.target_to_dict(target)) == target
    with one_line_error("objective is 'Nothing'; accepted: LogLikelihood, ELBO"):
        training.target_from_dict({"name": "Nothing"})
