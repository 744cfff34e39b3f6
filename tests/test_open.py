"""A model and a likelihood that gen_jax does not know, and that derive from nothing of it."""

import dataclasses
import io
import json

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import gen_jax
from gen_jax import data, inversion, models, objectives, sampling, training

from .cases import one_line_error

SHAPE = (3, 4, 1)
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Poisson:
    """Levels 0, 1, 2 in proportion to rate^level / level!; the parameter is log rate."""

    levels: int = 3

    def sites(self, channels):
        return channels

    def num_params(self, channels):
        return 1

    def num_noise(self, channels):
        return 1

    def _logits(self, params):
        level = jnp.arange(self.levels, dtype=params.dtype)
        level = level.reshape((1,) * (params.ndim - 1) + (-1,))
        return jax.nn.log_softmax(params * level - jax.scipy.special.gammaln(level + 1))

    def log_prob(self, params, pixels):
        at = pixels[..., None].astype(jnp.int32)
        return jnp.take_along_axis(self._logits(params), at, axis=-1)[..., 0]

    def draw(self, params, noise, temperature, given, known):
        weights = jax.nn.softmax(self._logits(params) / jnp.maximum(temperature, 1e-6))
        drawn = jnp.sum(jnp.cumsum(weights, axis=-1) < noise, axis=-1, keepdims=True)
        return jnp.where(known, given, jnp.minimum(drawn, self.levels - 1).astype(given.dtype))

    def mean(self, params, channels):
        raise NotImplementedError

    def marginal(self, pixels, dtype):
        raise NotImplementedError


class Whole(nn.Module):
    """Every pixel from the one to its left, as a whole image: no base of the library."""

    image_shape: tuple[int, int, int]
    likelihood: Poisson

    def setup(self):
        self.dense = nn.Dense(1)

    def __call__(self, images, labels=None):
        left = jnp.pad(jnp.asarray(images)[:, :, :-1], ((0, 0), (0, 0), (1, 0), (0, 0)))
        return self.dense(left.astype(jnp.float32))[..., None]


class Left(Whole):
    """With the next-site view."""

    def blocks(self):
        height, width, _ = self.image_shape
        return np.arange(height * width).reshape(height, width, 1)

    def init_carry(self, batch, labels=None):
        return jnp.zeros((batch, 1), jnp.float32)

    def begin_block(self, carry, block, previous):
        return jnp.zeros_like(carry), jnp.zeros(len(previous))

    def step(self, carry, context, draw):
        return draw(0, self.dense(carry)).astype(jnp.float32)


MODEL = Left(SHAPE, Poisson())
CONFIG = training.TrainConfig(
    steps=12,
    batch_size=8,
    eval_every=4,
    eval_batch_size=16,
    sample_every=1,
    optimizer=training.OptimizerConfig(learning_rate=3e-2, warmup_steps=1),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = np.minimum(rng.poisson(0.7, (60, *SHAPE)).cumsum(axis=2), 2).astype(np.uint8)
    path = tmp_path_factory.mktemp("open") / "images.npz"
    np.savez(path, images=images)
    return data.load(data.DataConfig(str(path), values="levels", levels=3))


def train(dataset, workdir, model=MODEL, **options):
    return training.train(
        model,
        data.train_iterator(dataset, CONFIG.batch_size, seed=0),
        lambda: data.eval_batches(dataset.validation, CONFIG.eval_batch_size),
        CONFIG,
        workdir,
        data={"fingerprint": dataset.fingerprint},
        mesh=training.make_mesh(jax.devices()[:1]),
        console=Console(file=io.StringIO()),
        **options,
    )


class Killed(BaseException):
    pass


def test_it_is_trained_killed_resumed_loaded_scored_and_drawn(dataset, tmp_path):
    def kill(step, variables):
        if step == 7:
            raise Killed

    with pytest.raises(Killed):
        train(dataset, tmp_path / "killed", on_sample=kill)
    assert train(dataset, tmp_path / "killed").step == 12
    assert train(dataset, tmp_path / "whole").step == 12
    model, variables = gen_jax.load(tmp_path / "killed", model=MODEL)
    _, undisturbed = gen_jax.load(tmp_path / "whole", model=MODEL)
    assert model is MODEL
    chex.assert_trees_all_equal(variables, undisturbed)

    nats = objectives.log_likelihood(model, variables, dataset.test.images)
    scored = training.evaluate(
        model,
        variables["params"],
        data.eval_batches(dataset.test, 4),
        KEY,
        training.LOG_LIKELIHOOD.evaluation,
    )
    assert scored.nats == pytest.approx(float(nats.mean()), rel=1e-5)
    losses = training.read_metrics(training.Workdir(tmp_path / "killed"), "validation")
    assert losses[-1]["bits_per_dim"] < losses[0]["bits_per_dim"]

    images = sampling.sample(model, variables, KEY, 8)
    assert np.unique(images).tolist() == [0, 1, 2]
    for method in ("naive", "fixed_point"):
        np.testing.assert_array_equal(
            sampling.sample(model, variables, KEY, 8, method=method), images
        )
    known = np.indices(SHAPE[:2])[0] < 1
    completed = sampling.complete(model, variables, KEY, np.asarray(images), known)
    np.testing.assert_array_equal(completed, images)


def test_run_json_names_the_classes_and_none_is_imported_by_its_name(dataset, tmp_path):
    train(dataset, tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())["model"]
    assert record == {
        "model": f"{__name__}.Left",
        "image_shape": [3, 4, 1],
        "likelihood": {"name": f"{__name__}.Poisson", "levels": 3},
    }
    with one_line_error(r"model is '\S+\.Left'.*; accepted: .*, given as model=…"):
        gen_jax.load(tmp_path)
    other = Left((3, 5, 1), Poisson())
    with one_line_error(
        r"holds another model: model.image_shape is \[3, 4, 1\] there, \[3, 5, 1\]"
    ):
        gen_jax.load(tmp_path, model=other)


def test_a_causal_model_without_a_carry_is_drawn_by_whole_passes():
    model = Whole(SHAPE, Poisson())
    variables = MODEL.init(KEY, np.zeros((1, *SHAPE), np.uint8))
    with one_line_error("Whole has no next-site view .*; accepted: naive, fixed_point"):
        sampling.sample(model, variables, KEY, 2)
    expected = sampling.sample(MODEL, variables, KEY, 4)
    for method in ("naive", "fixed_point"):
        found = sampling.sample(model, variables, KEY, 4, method=method)
        np.testing.assert_array_equal(found, expected)


class WholeOfABase(models.AutoregressiveModel):
    """The base names the next-site view, which is not written here."""

    def setup(self):
        self.dense = nn.Dense(self.params_per_site)

    def __call__(self, images, labels=None):
        images, labels = self.check(images, labels)
        left = jnp.pad(self.scale(jnp.asarray(images))[:, :, :-1], ((0, 0), (0, 0), (1, 0), (0, 0)))
        return self.site_params(self.dense(left), images, labels)


def test_a_base_gives_no_view_that_is_not_written():
    model = WholeOfABase(SHAPE, Poisson())
    variables = model.init(KEY, np.zeros((1, *SHAPE), np.uint8))
    with one_line_error("has no next-site view .*; accepted: naive, fixed_point"):
        sampling.sample(model, variables, KEY, 2)
    assert sampling.sample(model, variables, KEY, 2, method="naive").shape == (2, *SHAPE)


class Rows(Left):
    """Its blocks are those of a field, which may be wrong; two kinds take turns."""

    names: tuple[int, ...] = (0, 1, 2)
    phases: int = 1

    def blocks(self):
        return super().blocks()[list(self.names)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"names": (0, 2)}, "holds 8 site ids, 8 of them different; accepted: each of 0 … 11 once"),
        ({"names": (0, 1, 1)}, "holds 12 site ids, 8 of them different; accepted: each of 0 … 11"),
        ({"phases": 2}, "gives 3 blocks; accepted, with 2 phases: multiples of 2"),
    ],
)
def test_blocks_hold_every_site_once(fields, message):
    variables = MODEL.init(KEY, np.zeros((1, *SHAPE), np.uint8))
    with one_line_error(message):
        sampling.sample(Rows(SHAPE, Poisson(), **fields), variables, KEY, 2)


class Sowing(Left):
    """What it sows in `init` is no parameter, and nothing that `apply` needs."""

    def __call__(self, images, labels=None):
        params = super().__call__(images, labels)
        self.sow("losses", "size", jnp.sum(params**2))
        return params


def test_what_is_sown_is_not_asked_for():
    model, images = Sowing(SHAPE, Poisson()), np.zeros((2, *SHAPE), np.uint8)
    variables = model.init(KEY, images)
    params = {"params": variables["params"]}
    for given in (variables, params):
        nats = objectives.log_likelihood(model, given, images)
        np.testing.assert_array_equal(nats, objectives.log_likelihood(MODEL, params, images))
    np.testing.assert_array_equal(
        sampling.sample(model, params, KEY, 2), sampling.sample(MODEL, params, KEY, 2)
    )


class Around(nn.Module):
    """A model inside another module: the inner one is bound."""

    inner: Left

    def __call__(self, images):
        return objectives.log_likelihood(self.inner, self.inner.variables, images)


def test_a_bound_model_is_that_model():
    images = np.zeros((2, *SHAPE), np.uint8)
    variables = MODEL.init(KEY, images)
    expected = objectives.log_likelihood(MODEL, variables, images)
    outer = {"params": {"inner": variables["params"]}}
    for run in (Around(MODEL).apply, jax.jit(Around(MODEL).apply)):
        np.testing.assert_allclose(run(outer, images), expected, rtol=1e-6)
    bound = MODEL.bind(variables)
    np.testing.assert_array_equal(objectives.log_likelihood(bound, variables, images), expected)
    np.testing.assert_array_equal(
        sampling.sample(bound, variables, KEY, 2), sampling.sample(MODEL, variables, KEY, 2)
    )


@pytest.mark.parametrize("model", [object(), Left, nn.Dense(2)], ids=["object", "class", "Dense"])
def test_what_is_no_model_is_said_to_be_none(model):
    with one_line_error("accepted"):
        sampling.sample(model, {}, KEY, 2)


def test_a_known_likelihood_goes_with_an_unknown_model():
    model = models.PixelCNN(SHAPE, Poisson(), features=4, num_layers=1)
    assert models.to_dict(model)["likelihood"]["name"] == f"{__name__}.Poisson"
    variables = model.init(KEY, np.zeros((1, *SHAPE), np.uint8))
    assert sampling.sample(model, variables, KEY, 2).shape == (2, *SHAPE)


class Latent(nn.Module):
    """A VAE that keeps the protocol, `decode`, `encode` and a prior, and has no base."""

    image_shape: tuple[int, int, int]
    likelihood: Poisson
    num_latents: int = 2
    estimator: str = "reparametrized"
    has_real_codes: bool = True

    @property
    def prior(self):
        return models.StandardNormal(self.num_latents)

    def setup(self):
        self.encoder, self.decoder = nn.Dense(2 * self.num_latents), nn.Dense(3 * 4)

    def encode(self, images, labels=None):
        flat = jnp.asarray(images).reshape(len(images), -1).astype(jnp.float32)
        return models.DiagonalGaussian(*jnp.split(self.encoder(flat), 2, axis=-1))

    def decode(self, codes, labels=None):
        return self.decoder(codes).reshape(-1, *SHAPE, 1)

    def __call__(self, images, labels=None):
        return self.decode(self.encode(images).mode())


def test_a_latent_model_needs_no_base_either(dataset, tmp_path):
    model = Latent(SHAPE, Poisson())
    assert train(dataset, tmp_path, model=model, objective=training.ELBO()).step == 12
    model, variables = gen_jax.load(tmp_path, model=model)
    images = dataset.test.images
    elbo = objectives.elbo(model, variables, KEY, images, kl="monte_carlo", num_samples=200)
    closed = objectives.elbo(model, variables, KEY, images, num_samples=200)
    tighter = objectives.iwae_bound(model, variables, KEY, images, num_samples=200)
    np.testing.assert_allclose(elbo, closed, atol=1)
    assert (tighter > closed - 0.1).all()
    assert sampling.sample(model, variables, KEY, 5).shape == (5, *SHAPE)
    found = inversion.encode_by_inversion(model, variables, images[:2], num_steps=3, key=KEY)
    assert found.codes.shape == (2, 2)


class Silent(nn.Module):
    """A decoder that does not say whether its codes are real numbers."""

    image_shape: tuple[int, int, int]
    likelihood: Poisson
    num_latents: int = 2
    prior: None = None

    @nn.compact
    def decode(self, codes, labels=None):
        return nn.Dense(3 * 4)(codes).reshape(-1, *SHAPE, 1)

    def __call__(self, images, labels=None):
        return self.decode(jnp.zeros((len(images), self.num_latents)))


class Decoder(Silent):
    """A decoder trained alone: no encoder, no prior."""

    has_real_codes: bool = True


def test_a_decoder_alone_is_inverted_and_not_drawn_from():
    model, images = Decoder(SHAPE, Poisson()), np.zeros((2, *SHAPE), np.uint8)
    variables = model.init(KEY, images)
    starts = np.zeros((1, 2, 2), np.float16)
    found = inversion.encode_by_inversion(model, variables, images, num_steps=2, starts=starts)
    assert found.codes.dtype == jnp.float32
    with one_line_error("model is Decoder; accepted: one with a distribution over codes"):
        sampling.sample(model, variables, KEY, 2)
    with pytest.raises(TypeError, match="Silent has no has_real_codes; accepted: a module with"):
        inversion.encode_by_inversion(Silent(SHAPE, Poisson()), variables, images)


class Counting(Whole):
    """With a variable that is no parameter."""

    def setup(self):
        super().setup()
        self.calls = self.variable("counts", "calls", jnp.zeros, ())


def test_variables_that_no_run_would_keep_are_refused(dataset, tmp_path):
    with one_line_error(r"variables of Counting has \['counts'\]; accepted: params alone"):
        train(dataset, tmp_path, model=Counting(SHAPE, Poisson()))
