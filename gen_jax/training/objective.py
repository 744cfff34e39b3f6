"""What a run maximises: frozen dataclasses, called as `objective(model, variables, batch, key)`.

An objective gives one value an image in nats, whose gradient training follows, and terms worth
logging: `(nats [B], {name: [B] or [B, …]})`. Any such function will do; those here are also
settings of the command line, stand in run.json, and know what a validation should report
(`evaluation`). Training knows nothing else of a model.

`variables` has, beside the parameters, {"running": {"nats": scalar}}: the running mean of the
objective over the steps so far, in training only.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from gen_jax import checks, described, inversion, objectives
from gen_jax.models.shared.protocol import (
    Model,
    apply_prior,
    encoded,
    has_code,
    has_encoder,
    has_posterior,
    takes_labels,
    with_code,
    with_posterior,
)
from gen_jax.typing import Array, Batch, Json, Key, Labels, Levels, Nats, Variables

Terms: TypeAlias = Mapping[str, Array]


# What `train_step` and `evaluate` call.
Objective: TypeAlias = Callable[[Any, Variables, Batch, Key], tuple[Nats, Terms]]
"""`objective(model, variables, batch, key) -> (nats [B], terms)`, to be maximised."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Base of the objectives that a run can be configured with."""

    def __call__(
        self, model: Model, variables: Variables, batch: Batch, key: Key
    ) -> tuple[Nats, Terms]:
        """One value an image, in nats, and terms beside it."""
        raise NotImplementedError

    @property
    def evaluation(self) -> "Target":
        """What validation reports for a run of this objective, and chooses the best step by."""
        return self

    @property
    def report(self) -> "Target":
        """What results report for a run of this objective."""
        return self.evaluation

    @property
    def label(self) -> str:
        """What a result is the mean of: the negative objective, in words."""
        raise NotImplementedError

    def check(self, model: object) -> None:
        """ValueError if the objective is not one of this model's."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class LogLikelihood(Target):
    """log p(x | y) of an autoregressive model, exact."""

    dropout: bool = True
    """Whether the model's dropout is active: in training, never in evaluation."""

    def __call__(
        self, model: Model, variables: Variables, batch: Batch, key: Key
    ) -> tuple[Nats, Terms]:
        rngs = {"dropout": key} if self.dropout else None
        return objectives.log_likelihood(model, *_inputs(model, variables, batch), rngs=rngs), {}

    @property
    def evaluation(self) -> "LogLikelihood":
        return LogLikelihood(dropout=False)

    @property
    def label(self) -> str:
        return "-log p(x)"

    def check(self, model: object) -> None:
        _check(self, model, "an autoregressive model", not has_code(model))


LOG_LIKELIHOOD = LogLikelihood()
"""The objective of autoregressive models, with dropout in training."""


@dataclasses.dataclass(frozen=True)
class ELBO(Target):
    """reconstruction − β Σ_j max(KL_j, free bits) of a VAE."""

    num_samples: int = 1
    """Codes drawn for each image."""
    kl: objectives.KL = "analytic"
    """KL divergence in closed form where the prior has one (analytic), or estimated from the codes
    drawn."""
    beta: float = 1.0
    """Weight β of the KL divergence (Higgins et al. 2017); 1 is the bound itself."""
    free_bits: float = 0.0
    """Nats of KL of each latent, a mean over the batch, that cost nothing (Kingma et al. 2016)."""
    estimator: objectives.Estimator = "reparametrized"
    """How the encoder's gradient is estimated: see `objectives.elbo_terms`."""
    baseline: objectives.Baseline = "none"
    """Subtracted in the score function; constant: the running mean of the bound over the steps."""

    def __post_init__(self) -> None:
        checks.whole("num_samples", self.num_samples, 1)
        for name in ("beta", "free_bits"):
            checks.real(name, getattr(self, name), 0)

    def __call__(
        self, model: Model, variables: Variables, batch: Batch, key: Key
    ) -> tuple[Nats, Terms]:
        params, images, labels = _inputs(model, variables, batch)
        terms = objectives.elbo_terms(
            model,
            params,
            key,
            images,
            labels,
            self.num_samples,
            self.kl,
            estimator=self.estimator,
            baseline=self.baseline,
            constant=self._running(variables) if self.baseline == "constant" else 0.0,
        )
        kl = terms.kl
        if self.free_bits:
            if not objectives.has_closed_form(model, params, images, labels):
                raise ValueError(
                    f"free_bits is {self.free_bits}; accepted, by a prior whose divergence has no "
                    "closed form: 0"
                )
            # In value and gradient the sum over j of max(mean over the batch of kl_j, free_bits).
            kl = jnp.where(jnp.mean(kl, axis=0) > self.free_bits, kl, self.free_bits)
        nats = terms.reconstruction - self.beta * jnp.sum(kl, axis=-1)
        return nats, {
            "reconstruction": terms.reconstruction,
            "kl": jnp.sum(terms.kl, axis=-1),
            "kl_per_latent": terms.kl,
        }

    def _running(self, variables: Variables) -> Any:
        """In evaluation there is none, and it has no influence on the value."""
        return variables["running"]["nats"] if "running" in variables else 0.0

    @property
    def evaluation(self) -> "ELBO":
        """The bound itself, of one code an image, with the closed form where the prior has one."""
        # The estimator has no influence on the value, but must be one of the model's.
        return ELBO(estimator=self.estimator)

    @property
    def label(self) -> str:
        return "-ELBO"

    def check(self, model: object) -> None:
        _check(self, model, "a VAE", has_posterior(model))
        objectives.check_estimator(
            with_posterior(model), self.num_samples, self.kl, self.estimator, self.baseline
        )


@dataclasses.dataclass(frozen=True)
class IWAE(Target):
    """The importance-weighted bound of a VAE with Gaussian latents."""

    num_samples: int = 50
    """Codes drawn for each image, k."""
    chunk_size: int | None = None
    """Codes of an image in memory at once; None for all."""
    estimator: objectives.IWAEEstimator = "reparametrized"
    """How the encoder's gradient is estimated: see `objectives.iwae_bound`."""

    def __post_init__(self) -> None:
        checks.whole("num_samples", self.num_samples, 1)
        if self.chunk_size is not None:
            checks.whole("chunk_size", self.chunk_size, 1)

    def __call__(
        self, model: Model, variables: Variables, batch: Batch, key: Key
    ) -> tuple[Nats, Terms]:
        params, images, labels = _inputs(model, variables, batch)
        nats = objectives.iwae_bound(
            model,
            params,
            key,
            images,
            labels,
            self.num_samples,
            chunk_size=self.chunk_size,
            estimator=self.estimator,
        )
        # The terms of the ELBO, of one more code an image: for the logs alone.
        _, terms = ELBO(estimator=with_posterior(model).estimator)(
            model,
            jax.lax.stop_gradient(params),
            batch,
            jax.random.fold_in(key, self.num_samples),
        )
        return nats, terms

    @property
    def report(self) -> ELBO:
        return ELBO()

    @property
    def label(self) -> str:
        return f"-IWAE bound, k = {self.num_samples},"

    def check(self, model: object) -> None:
        real = has_posterior(model) and model.has_real_codes
        _check(self, model, "a VAE with Gaussian latents, which its gradient passes through", real)
        objectives.check_iwae_estimator(
            with_posterior(model), self.num_samples, self.chunk_size, self.estimator
        )


@dataclasses.dataclass(frozen=True)
class Reconstruction(Target):
    """log p(x | z(x)) of a deterministic auto-encoder: not a bound of log p(x)."""

    def __call__(
        self, model: Model, variables: Variables, batch: Batch, key: Key
    ) -> tuple[Nats, Terms]:
        del key
        params, images, labels = _inputs(model, variables, batch)
        codes = encoded(model, params, images, labels)
        return objectives.reconstruction(model, params, codes, images, labels), {}

    @property
    def label(self) -> str:
        return "-log p(x | z(x)), no bound of log p(x),"

    def check(self, model: object) -> None:
        deterministic = has_encoder(model) and model.prior is None
        _check(self, model, "a deterministic auto-encoder", deterministic)


@dataclasses.dataclass(frozen=True)
class LearnedCodes(Target):
    """log p(x | z_n) + log p(z_n) of an implicit auto-encoder, z_n the learned code of image n."""

    def __call__(
        self, model: Model, variables: Variables, batch: Batch, key: Key
    ) -> tuple[Nats, Terms]:
        del key
        if "indices" not in batch:
            raise checks.missing("the batch", "indices", "the numbers of its images in the set")
        params, images, labels = _inputs(model, variables, batch)
        codes = model.apply(params, batch["indices"], method="codes")
        fit = objectives.reconstruction(model, params, codes, images, labels)
        each = apply_prior(with_code(model), params, "log_prob", codes, labels)
        prior = jnp.sum(each, axis=-1)
        return fit + prior, {"reconstruction": fit, "log_prior": prior}

    @property
    def evaluation(self) -> "Inverted":
        return Inverted()

    @property
    def label(self) -> str:
        return "-log p(x, z(x)), no bound of log p(x),"

    def check(self, model: object) -> None:
        _check(self, model, "an implicit auto-encoder", hasattr(model, "codes"))


@dataclasses.dataclass(frozen=True)
class Inverted(Target):
    """log p(x | z) + log p(z) of an implicit auto-encoder, z found by inverting its decoder."""

    num_starts: int = 2
    """Starts of the search, the first of them 0."""
    num_steps: int = 100
    """Steps of Adam from each start."""

    def __call__(
        self, model: Model, variables: Variables, batch: Batch, key: Key
    ) -> tuple[Nats, Terms]:
        found = inversion.encode_by_inversion(
            model,
            *_inputs(model, variables, batch),
            key=key,
            num_starts=self.num_starts,
            num_steps=self.num_steps,
        )
        prior = found.log_joint - found.reconstruction
        return found.log_joint, {"reconstruction": found.reconstruction, "log_prior": prior}

    @property
    def label(self) -> str:
        return "-log p(x, z(x)), no bound of log p(x),"

    def check(self, model: object) -> None:
        _check(self, model, "an implicit auto-encoder", hasattr(model, "codes"))


TARGETS: Mapping[str, type[Target]] = {
    "LogLikelihood": LogLikelihood,
    "ELBO": ELBO,
    "IWAE": IWAE,
    "Reconstruction": Reconstruction,
    "LearnedCodes": LearnedCodes,
    "Inverted": Inverted,
}
"""The objectives of this library by name, as run.json writes them."""


def target_to_dict(objective: object) -> Json:
    """An objective as JSON: `{"name": …, …fields}`.

    One of this library has a short name, any other its module and qualified name.
    """
    if isinstance(objective, Target):
        name = described.class_name(objective, TARGETS)
        return {"name": name, **described.fields(objective)}
    return described.function(objective)


def target_from_dict(config: Json) -> Target:
    """What `target_to_dict` wrote. ValueError for an unknown name or field."""
    fields = dict(config)
    name = checks.choice("objective", fields.pop("name", None), TARGETS)
    return described.built(TARGETS[name], fields)


def _inputs(
    model: Model, variables: Variables, batch: Batch
) -> tuple[Variables, Levels, Labels | None]:
    """Parameters alone, images, and the labels if the model takes them.

    A set with labels also trains a model without.
    """
    conditional = takes_labels(model)
    labels = batch["labels"] if conditional else None
    return {"params": variables["params"]}, batch["images"], labels


def _check(target: Target, model: object, accepted: str, is_accepted: bool) -> None:
    if not is_accepted:
        raise ValueError(
            f"model is {type(model).__name__}; accepted, by the objective {type(target).__name__}: "
            f"{accepted}"
        )
