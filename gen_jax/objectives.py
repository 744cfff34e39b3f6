"""What is trained and reported: one value an image, in nats, never reduced.

Log-likelihoods and bounds are to be maximised: a loss is minus their mean. All are pure functions,
for any transformation of JAX. Errors are those of `log_likelihood`, and ValueError for a model of
the wrong kind.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import checks
from gen_jax.keys import threefry
from gen_jax.models.shared.parameters import check_variables
from gen_jax.models.shared.protocol import (
    Model,
    PosteriorModel,
    apply_prior,
    check_inputs,
    has_code,
    refuse,
    traits,
    with_posterior,
)
from gen_jax.reprs import brief
from gen_jax.typing import (
    AnyLabels,
    AnyLevels,
    Array,
    Bool,
    Float,
    Key,
    Labels,
    Levels,
    Nats,
    Variables,
)

KL: TypeAlias = Literal["analytic", "monte_carlo"]
"""Whether KL(q(z | x) ‖ p(z)) is in closed form, or estimated from the codes drawn."""
Estimator: TypeAlias = Literal["reparametrized", "score_function", "straight_through"]
"""How the gradient passes to the encoder: see `elbo_terms`."""
IWAEEstimator: TypeAlias = Literal["reparametrized", "doubly_reparametrized"]
"""How the gradient of the bound of several codes passes to the encoder: see `iwae_bound`."""
Baseline: TypeAlias = Literal["none", "constant", "leave_one_out"]
"""What the score function subtracts: see `elbo_terms`."""


def log_likelihood(
    model: Model,
    variables: Variables,
    images: AnyLevels,
    labels: AnyLabels | None = None,
    *,
    rngs: dict[str, Key] | None = None,
) -> Nats:
    """log p(x | y) in nats, `[B]`. Pass `rngs={"dropout": key}` to train with dropout.

    ValueError if shapes, types, labels or parameters are not what the model takes; inside a jit,
    where values are unknown, NaN for an image with a level, or a label, that does not exist.
    """
    sites = log_likelihood_map(model, variables, images, labels, rngs=rngs)
    return jnp.sum(sites, axis=(1, 2, 3))


def log_likelihood_map(
    model: Model,
    variables: Variables,
    images: AnyLevels,
    labels: AnyLabels | None = None,
    *,
    rngs: dict[str, Key] | None = None,
) -> Float[Array, "B H W S"]:
    """log p(x_i | x_<i, y) of every site in nats: where an image surprises the model."""
    if has_code(model):
        refuse(model, "an autoregressive model; a VAE has a bound instead: elbo, iwae_bound")
    images, labels = check_inputs(model, images, labels)
    check_variables(model, variables)
    params = model.apply(variables, images, labels, rngs=rngs)
    return model.likelihood.log_prob(params, jnp.asarray(images))


def log_posterior(model: Model, variables: Variables, images: AnyLevels) -> Float[Array, "B K"]:
    """log p(y | x) in nats by Bayes' rule with equal priors: the model as a classifier.

    One pass for each class. ValueError for a model without classes.
    """
    num_classes = traits(model).num_classes
    if num_classes is None:
        raise ValueError("num_classes is None; accepted: a model with classes")
    scores = [log_likelihood(model, variables, images, y) for y in range(num_classes)]
    return jax.nn.log_softmax(jnp.stack(scores, axis=-1))


def reconstruction(
    model: Model,
    variables: Variables,
    codes: Float[Array, "*samples B Z"],
    images: AnyLevels,
    labels: AnyLabels | None = None,
) -> Float[Array, "*samples B"]:
    """log p(x | z, y) of an auto-encoder in nats, for each code of each image.

    ValueError if the codes are not as many as the images.
    """
    if not has_code(model):
        refuse(model, "an auto-encoder")
    images, labels = check_inputs(model, images, labels)
    check_variables(model, variables)
    codes = jnp.asarray(checks.array("codes", codes))
    samples, batch = codes.shape[:-2], len(images)
    if codes.ndim < 2 or codes.shape[-2] != batch:
        raise ValueError(f"codes has shape {codes.shape}; accepted: one for each of {batch} images")
    # The batch leads, so that examples stay on their device.
    codes = jnp.moveaxis(codes, -2, 0)
    each = codes.shape[:-1]
    if labels is not None:
        labels = jnp.asarray(labels).reshape(batch, *(1,) * len(samples))
        labels = jnp.broadcast_to(labels, each).reshape(-1)
    params = model.apply(variables, codes.reshape(-1, codes.shape[-1]), labels, method="decode")
    images = jnp.asarray(images)
    pixels = jnp.broadcast_to(
        images.reshape(batch, *(1,) * len(samples), *images.shape[1:]), (*each, *images.shape[1:])
    )
    sites = model.likelihood.log_prob(params.reshape(*each, *params.shape[1:]), pixels)
    return jnp.moveaxis(jnp.sum(sites, axis=(-3, -2, -1)), 0, -1)


class ELBOTerms(NamedTuple):
    """The evidence lower bound of each image, taken apart; all in nats."""

    reconstruction: Nats
    """E_q log p(x | z), `[B]`."""
    kl: Float[Array, "B Z"]
    """KL(q(z_j | x) ‖ p(z_j)) of each latent (an estimate, with kl="monte_carlo" or a prior that
    has no closed form)."""

    __repr__ = brief

    @property
    def elbo(self) -> Nats:
        """reconstruction − Σ_j kl_j."""
        return self.reconstruction - jnp.sum(self.kl, axis=-1)


def elbo(
    model: Model,
    variables: Variables,
    key: Key,
    images: AnyLevels,
    labels: AnyLabels | None = None,
    num_samples: int = 1,
    kl: KL = "analytic",
) -> Nats:
    """E_q [log p(x | z)] − KL(q(z | x) ‖ p(z)) ≤ log p(x) in nats, `[B]`, from `num_samples` codes.

    The KL divergence is in closed form where the prior has one, or estimated from the same codes
    (kl="monte_carlo"). The gradient passes
    through Gaussian codes (Kingma & Welling 2014, eq. 6 and 7), and is the score function's for
    bits; `elbo_terms` has the others.
    """
    estimator = with_posterior(model).estimator
    return elbo_terms(
        model, variables, key, images, labels, num_samples, kl, estimator=estimator
    ).elbo


def elbo_terms(
    model: Model,
    variables: Variables,
    key: Key,
    images: AnyLevels,
    labels: AnyLabels | None = None,
    num_samples: int = 1,
    kl: KL = "analytic",
    *,
    estimator: Estimator = "reparametrized",
    baseline: Baseline = "none",
    constant: Float[Array, ""] | float = 0.0,
) -> ELBOTerms:
    """The terms of `elbo`, whose gradient by automatic differentiation is that of `estimator`.

    The value does not depend on the estimator. For the encoder the gradient is

    * reparametrized: ∇ through z = μ + σ ⊙ ε; Gaussian latents only;
    * score_function: (f(z) − b) ∇ log q(z | x), REINFORCE (Williams 1992), for f = log p(x | z),
      and with kl="monte_carlo" for each latent's log q(z_j | x) − log p(z_j) likewise (for their
      sum, if the divergence has no closed form: latents may be coupled). The baseline
      b is 0 ("none"), what log p(x | z) is where the bound is `constant`, such as its running mean
      ("constant"), or the mean of f over the other codes of the same image ("leave_one_out"; Mnih
      & Rezende 2016, VIMCO; Kool et al. 2019);
    * straight_through: as if the draw were its mean (Bengio et al. 2013); Bernoulli latents only,
      and biased.

    ValueError for a combination that does not exist.
    """
    check_estimator(model, num_samples, kl, estimator, baseline)
    how = _ESTIMATORS[estimator]
    images, labels = check_inputs(model, images, labels)
    check_variables(model, variables)
    posterior = model.apply(variables, images, labels, method="encode")
    codes = how.pass_on(posterior, posterior.sample(threefry(key), num_samples))
    fit = reconstruction(model, variables, codes, images, labels)
    log_q = posterior.log_prob(codes)
    divergence = apply_prior(with_posterior(model), variables, "kl", posterior, labels)
    if divergence is None or kl == "monte_carlo":
        sampled, prior = True, _prior(model, variables, codes, labels)
        # By the score function alone: the mean of ∇ log q is 0.
        own = jax.lax.stop_gradient(log_q) if how.adds_score else log_q
        each = own - prior
    else:
        sampled, each = False, divergence[None]
    if how.adds_score:
        offset = jnp.zeros((), fit.dtype)
        if baseline == "constant":
            if divergence is None:  # an estimate of it would depend on the code
                raise ValueError(
                    f"baseline is {baseline!r}; accepted, by a prior whose divergence has no "
                    "closed form: 'none' and 'leave_one_out'"
                )
            offset = jnp.asarray(constant, fit.dtype) + jnp.sum(divergence, axis=-1)
        fit = fit + _score(fit, jnp.sum(log_q, axis=-1), baseline, offset)
        if sampled:
            # Without a closed form latents may be coupled: a draw moves the terms of others too.
            moved = jnp.sum(each, axis=-1, keepdims=True) if divergence is None else each
            each = each + _score(moved, log_q, baseline, jnp.zeros((), fit.dtype))
    return ELBOTerms(jnp.mean(fit, axis=0), jnp.mean(each, axis=0))


class _Estimator(NamedTuple):
    """How the gradient passes to the encoder: see `elbo_terms`."""

    latents: tuple[Literal["real", "discrete"], ...]
    """Those that it is for."""
    pass_on: Callable[[Any, Array], Array]
    """(posterior, codes drawn of it) -> the codes, with the gradient that passes through them."""
    adds_score: bool = False
    """Whether the score's term, (f(z) − b) ∇ log q(z | x), is added."""


_ESTIMATORS: Mapping[Estimator, _Estimator] = {
    "reparametrized": _Estimator(("real",), lambda _, z: z),
    "score_function": _Estimator(
        ("real", "discrete"), lambda _, z: jax.lax.stop_gradient(z), adds_score=True
    ),
    "straight_through": _Estimator(("discrete",), lambda q, z: q.straight_through(z)),
}


def has_closed_form(
    model: Model, variables: Variables, images: Levels, labels: Labels | None
) -> bool:
    """Whether KL(q(z | x) ‖ p(z)) is computed, and not estimated from the codes drawn."""

    def divergence(variables: Variables) -> Array | None:
        posterior = model.apply(variables, images, labels, method="encode")
        return apply_prior(with_posterior(model), variables, "kl", posterior, labels)

    return jax.eval_shape(divergence, variables) is not None


def _prior(model: Model, variables: Variables, codes: Array, labels: Labels | None) -> Array:
    """log p(z_j | y) of each latent of each code, in nats."""
    return apply_prior(with_posterior(model), variables, "log_prob", codes, labels)


def _score(signal: Array, log_q: Array, baseline: Baseline, offset: Array) -> Array:
    """0, with the gradient of (signal − baseline) · log q; codes of an image along axis 0."""
    signal = jax.lax.stop_gradient(signal)
    if baseline == "leave_one_out":
        others = jnp.sum(signal, axis=0, keepdims=True) - signal
        signal = signal - others / (signal.shape[0] - 1)
    elif baseline == "constant":
        offset = jax.lax.stop_gradient(offset)
        signal = signal - offset.reshape((1,) * (signal.ndim - offset.ndim) + offset.shape)
    product = signal * log_q
    return product - jax.lax.stop_gradient(product)


def iwae_bound(
    model: Model,
    variables: Variables,
    key: Key,
    images: AnyLevels,
    labels: AnyLabels | None = None,
    num_samples: int = 50,
    *,
    chunk_size: int | None = None,
    estimator: IWAEEstimator = "reparametrized",
) -> Nats:
    """log 1/k Σ p(x, z_k) / q(z_k | x) in nats, `[B]` (Burda, Grosse & Salakhutdinov 2016, eq. 8).

    In expectation a lower bound of log p(x), the tighter the larger k = `num_samples`. With
    `chunk_size`, that many codes an image are in memory at once, and the rest follow in a scan.

    The value does not depend on the estimator. For the encoder the gradient is

    * reparametrized: ∇ through Gaussian codes (eq. 14); through bits the encoder gets none;
    * doubly_reparametrized: the same on average, mostly with less noise, the more so the larger k
      (IWAE-DReG of Tucker et al. 2019; for k = 1 that of Roeder et al. 2017): the parameters of
      log q are constants, and what passes through a code is multiplied once more by its
      normalised weight. Gaussian latents only, and all codes in memory at once.

    ValueError for a combination that does not exist.
    """
    model = with_posterior(model)
    num_samples = checks.whole("num_samples", num_samples, 1)
    chunk = num_samples
    if chunk_size is not None:
        chunk = min(checks.whole("chunk_size", chunk_size, 1), num_samples)
    check_iwae_estimator(model, num_samples, chunk, estimator)
    images, labels = check_inputs(model, images, labels)
    check_variables(model, variables)
    key = threefry(key)
    posterior = model.apply(variables, images, labels, method="encode")
    if not model.has_real_codes:
        posterior = jax.lax.stop_gradient(posterior)

    given = posterior, images, labels
    if chunk == num_samples:
        codes = posterior.sample(key, num_samples)
        if estimator == "doubly_reparametrized":
            total = _doubly_reparametrized(model, codes, variables, *given)
        else:
            total = jax.nn.logsumexp(_log_weights(model, codes, variables, *given), axis=0)
        return total - math.log(num_samples)
    num_chunks = -(-num_samples // chunk)

    @jax.checkpoint  # a gradient keeps one chunk's activations in memory, not all
    def add(total: Array, index: Array) -> tuple[Array, None]:
        codes = posterior.sample(jax.random.fold_in(key, index), chunk)
        weights = _log_weights(model, codes, variables, *given)
        counted = index * chunk + jnp.arange(chunk) < num_samples  # the last may be too many
        weights = jnp.where(counted[:, None], weights, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(weights, axis=0)), None

    start = jnp.full((images.shape[0],), -jnp.inf, traits(model).real_dtype)
    total, _ = jax.lax.scan(add, start, jnp.arange(num_chunks))
    return total - math.log(num_samples)


def _log_weights(
    model: PosteriorModel,
    codes: Float[Array, "samples B Z"],
    variables: Variables,
    posterior: Any,
    images: Levels,
    labels: Labels | None,
) -> Float[Array, "samples B"]:
    """log p(x, z) / q(z | x) of each code."""
    prior = _prior(model, variables, codes, labels) - posterior.log_prob(codes)
    return reconstruction(model, variables, codes, images, labels) + jnp.sum(prior, axis=-1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _doubly_reparametrized(
    model: PosteriorModel, codes: Array, variables: Variables, *given: Any
) -> Nats:
    """logsumexp of `_log_weights`, with the derivative that `iwae_bound` says."""
    return jax.nn.logsumexp(_log_weights(model, codes, variables, *given), axis=0)


@_doubly_reparametrized.defjvp
def _(model: PosteriorModel, primals: tuple, tangents: tuple) -> tuple[Nats, Nats]:
    codes, variables, *given = primals
    codes_dot, variables_dot, *_ = tangents  # none of q's own parameters
    logs, push = jax.linearize(lambda z, v: _log_weights(model, z, v, *given), codes, variables)
    weights = jax.nn.softmax(logs, axis=0)
    logs_dot = push(weights[..., None] * codes_dot, variables_dot)
    return jax.nn.logsumexp(logs, axis=0), jnp.sum(weights * logs_dot, axis=0)


def active_units(
    means: Float[Array | np.ndarray, "images Z"], threshold: float = 0.01
) -> Bool[Array, " Z"]:
    """Latents that say something: Var_x E_q[z_j | x] > threshold (Burda et al. 2016, section 5.2).

    `means` are the posterior means of all images of a set, `encode(images).mean()` of a VAE.
    """
    return jnp.var(jnp.asarray(means), axis=0) > threshold


def bits_per_dim(
    nats: Float[Array, "*batch"], image_shape: tuple[int, int, int]
) -> Float[Array, "*batch"]:
    """−nats / (ln 2 · H · W · C), bits per channel of a pixel: the only place that converts."""
    return -nats / (math.log(2) * math.prod(checks.wholes("image_shape", image_shape, 1, 3)))


def check_estimator(
    model: Model, num_samples: int, kl: KL, estimator: Estimator, baseline: Baseline
) -> None:
    """ValueError for a combination of `elbo_terms` that does not exist."""
    model = with_posterior(model)
    checks.whole("num_samples", num_samples, 1)
    checks.choice("kl", kl, KL)
    checks.choice("estimator", estimator, Estimator)
    checks.choice("baseline", baseline, Baseline)
    latents = "real" if model.has_real_codes else "discrete"
    if latents not in _ESTIMATORS[estimator].latents:
        accepted = (name for name, how in _ESTIMATORS.items() if latents in how.latents)
        raise ValueError(
            f"estimator is {estimator!r}; accepted, for {latents} latents: {' or '.join(accepted)}"
        )
    if baseline != "none" and not _ESTIMATORS[estimator].adds_score:
        raise ValueError(f"baseline is {baseline!r}; accepted, by the estimator {estimator}: none")
    if baseline == "leave_one_out" and num_samples < 2:
        raise ValueError(
            f"num_samples is {num_samples}; accepted, with the baseline leave_one_out: 2 or more"
        )


def check_iwae_estimator(
    model: Model, num_samples: int, chunk_size: int | None, estimator: IWAEEstimator
) -> None:
    """ValueError for a combination of `iwae_bound` that does not exist."""
    checks.choice("estimator", estimator, IWAEEstimator)
    if estimator == "reparametrized":
        return
    if not with_posterior(model).has_real_codes:
        raise ValueError(
            f"estimator is {estimator!r}; accepted, for discrete latents: 'reparametrized'"
        )
    if chunk_size is not None and chunk_size < num_samples:
        raise ValueError(
            f"chunk_size is {chunk_size}; accepted, by the estimator {estimator}: None, or "
            f"num_samples, {num_samples}, for all codes in memory at once"
        )
