"""What is accepted as people give it, and one clear line for what is not."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from gen_jax import checks, inversion, likelihoods, models, objectives, sampling
from tests.cases import make, one_line_error, perturbed, some_images
from tests.vaes import vae

KEY = jax.random.key(0)
BERNOULLI = likelihoods.Bernoulli()


@pytest.fixture
def unchecked():
    """As users have it: annotations are not looked at."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


# Fields.


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (lambda: likelihoods.Categorical(4.5), "levels is 4.5; accepted: whole numbers from 2"),
        (lambda: likelihoods.Categorical(4.0), "levels is 4.0; accepted: whole numbers from 2"),
        (lambda: likelihoods.Categorical(True), "levels is True; accepted: whole numbers from 2"),
        (lambda: likelihoods.Categorical("4"), "levels is '4'; accepted: whole numbers from 2"),
        (lambda: likelihoods.Categorical(None), "levels is None; accepted: whole numbers"),
        (lambda: likelihoods.DiscretizedLogisticMixture(8, 2.5), "components is 2.5; accepted: "),
        (lambda: gated(features=4.0), "features is 4.0; accepted: whole numbers of at least 1"),
        (lambda: gated(features="8"), "features is '8'; accepted: whole numbers"),
        (lambda: gated(num_layers=True), "num_layers is True; accepted: whole numbers"),
        (lambda: gated(num_classes=2.0), "num_classes is 2.0; accepted: whole numbers"),
        (lambda: gated(kernel_size=3.0), "kernel_size is 3.0; accepted: odd whole numbers"),
        (lambda: gated(dropout="0.5"), r"dropout is '0.5'; accepted: numbers in \[0, 1\)"),
        (lambda: gated(dtype=jnp.float32), "dtype is <class .*; accepted: float32, bfloat16"),
        (lambda: gated(image_shape=4), "image_shape is 4; accepted: 3 whole numbers"),
        (lambda: gated(image_shape=(4, 4, 1.0)), r"image_shape is \(4, 4, 1.0\); accepted: 3"),
        (lambda: gated(image_shape="441"), "image_shape is '441'; accepted: 3 whole numbers"),
        (lambda: gated(likelihood=likelihoods.Bernoulli), "likelihood is <class .*; accepted: one"),
        (lambda: gated(likelihood="Bernoulli"), "likelihood is 'Bernoulli'; accepted: one such"),
        (lambda: vae(num_latents=2.5), "num_latents is 2.5; accepted: whole numbers"),
    ],
    ids=range(19),
)
def test_wrong_fields(make_one, message):
    with one_line_error(message):
        make_one()


def gated(image_shape=(2, 2, 1), likelihood=BERNOULLI, **fields):
    fields = {"features": 2, "num_layers": 1, "first_kernel_size": 3, **fields}
    return models.GatedPixelCNN(image_shape, likelihood, **fields)


def test_numpy_numbers_and_lists_make_the_same_model(unchecked):
    """Equal, of equal hash, so that one program serves both; and JSON takes them."""
    shape, two = list(np.array([2, 2, 1])), np.int64(2)
    assert likelihoods.Categorical(np.int32(5)) == likelihoods.Categorical(5)
    assert type(likelihoods.Categorical(np.int32(5)).levels) is int
    assert type(likelihoods.DiscretizedLogisticMixture(np.uint8(5), two).components) is int
    pairs = [
        (gated(shape, features=two, dropout=np.float32(0.5)), gated(dropout=0.5)),
        (gated(np.array([2, 2, 1])), gated()),
        (vae(shape, hidden=[np.int32(4)], num_latents=two), vae((2, 2, 1), 2)),
    ]
    for one, other in pairs:
        assert one == other
        assert hash(one) == hash(other)
        assert repr(models.to_dict(one)) == repr(models.to_dict(other))
        assert type(one.image_shape) is tuple


# Arguments.


@pytest.fixture(scope="module")
def pixels():
    model = make("GatedPixelCNN", "categorical", (2, 3), num_layers=1)
    return model, perturbed(model)


def test_lists_and_one_label_for_all(pixels, unchecked):
    model, variables = pixels
    images = np.asarray(some_images(model, 2))
    expected = objectives.log_likelihood(model, variables, images, np.array([1, 1]))
    for labels in (1, [1, 1], np.int64(1), jnp.asarray(1), np.ones(2, np.uint8)):
        found = objectives.log_likelihood(model, variables, images.tolist(), labels)
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        objectives.log_likelihood_map(model, variables, images, 1).sum((1, 2, 3)), expected
    )
    whole = sampling.sample(model, variables, KEY, 2, labels=np.array([1, 1]))
    for count, labels in ((np.int64(2), 1), (np.array(2), [1, 1]), (jnp.asarray(2), np.int8(1))):
        drawn = sampling.sample(model, variables, KEY, count, labels=labels, first=np.int32(0))
        np.testing.assert_array_equal(drawn, whole)
    traced = jax.jit(lambda y: objectives.log_likelihood(model, variables, images, y))
    np.testing.assert_allclose(traced(1), expected, rtol=1e-5)


def test_masks_as_people_have_them(pixels, unchecked):
    """Of pixels, of channels, of 0 and 1: `checks.mask` says what each stands for."""
    shape, rng = (2, 3, 5, 3), np.random.default_rng(0)
    for of, index in (
        ((3, 5), np.s_[None, ..., None]),
        ((2, 3, 5), np.s_[..., None]),
        ((3, 5, 1), np.s_[None]),
        ((3, 5, 3), np.s_[None]),
        ((2, 3, 5, 3), np.s_[:]),
        ((2, 3, 5, 1), np.s_[:]),
        ((5, 1), np.s_[None, None]),
        ((3,), np.s_[None, None, None]),
        ((), np.s_[None, None, None, None]),
    ):
        known = rng.random(of) < 0.5
        expected = np.broadcast_to(known[index], shape)
        for given in (known, known.astype(int), known.tolist(), jnp.asarray(known)):
            found = checks.mask(given, shape)
            assert found.dtype == bool
            np.testing.assert_array_equal(found, expected)
    for known in (np.eye(3, dtype=bool), np.eye(3, dtype=int) * 2):
        with one_line_error("which is one of pixels and|known goes from 0 to 2"):
            checks.mask(known, (2, 3, 3, 3))
    model, variables = pixels
    images = np.ones((2, 2, 3, 1), np.int64)
    drawn = sampling.complete(model, variables, KEY, images.tolist(), [[1] * 3, [0] * 3], labels=0)
    assert (np.asarray(drawn)[:, 0] == 1).all()


def calls():
    """A wrong call, and what is said of it."""
    model, variables = make("GatedPixelCNN", "bernoulli", (2, 2), num_layers=1), None
    variables, images = perturbed(model), np.zeros((2, 2, 2, 1), np.int32)

    def sample(model=model, variables=variables, key=KEY, num_images=2, **options):
        return lambda: sampling.sample(model, variables, key, num_images, **options)

    def score(images=images, variables=variables, **options):
        return lambda: objectives.log_likelihood(model, variables, images, **options)

    def elbo(**options):
        options = {"num_samples": 1, **options}
        return lambda: objectives.elbo(coder, codes, KEY, images, **options)

    def invert(**options):
        return lambda: inversion.encode_by_inversion(coder, codes, images, **options)

    coder = vae((2, 2, 1), 2)
    codes = perturbed(coder)
    params = variables["params"]
    deeper = perturbed(make("GatedPixelCNN", "bernoulli", (2, 2), num_layers=2))
    wider = perturbed(make("GatedPixelCNN", "bernoulli", (2, 2), num_layers=1, features=7))
    lacking = {"params": {k: v for k, v in params.items() if k != "head"}}
    return [
        (sample(num_images="4"), "num_images is '4'; accepted: whole numbers of at least 1"),
        (sample(num_images=4.0), "num_images is 4.0; accepted: whole numbers"),
        (sample(num_images=True), "num_images is True; accepted: whole numbers"),
        (sample(first=0.5), "first is 0.5; accepted: whole numbers from 0"),
        (sample(first=2**31), "first is 2147483648; accepted: whole numbers from 0 to"),
        (sample(temperature="1"), r"temperature is '1'; accepted: numbers in \[0, inf\)"),
        (sample(temperature=None), "temperature is None; accepted: numbers"),
        (
            sample(method=None),
            "method is None; accepted: scan, naive, fixed_point, block_fixed_point",
        ),
        (sample(key=0), "key is 0; accepted: one key, such as jax.random.key"),
        (sample(key=jax.random.split(KEY, 2)), r"key has .* shape \(2,\); accepted: one key"),
        (sample(key=np.zeros(2)), "key has dtype float64 .*; accepted: one key"),
        (sample(model=models.PixelCNN), "model is <class .*; accepted: one such as"),
        (sample(model="PixelCNN"), "model is 'PixelCNN'; accepted: one such as"),
        (sample(mesh=jax.devices()), "mesh is .*; accepted: a jax.sharding.Mesh"),
        (sample(variables=params), r"variables has no 'params' \(its keys: .*'head'"),
        (sample(variables={}), "variables has no 'params' .*none"),
        (sample(variables=None), "variables is None; accepted: what model.init gives"),
        (sample(variables=deeper), r"\['layers_1'\].* is no parameter of GatedPixelCNN"),
        (sample(variables=lacking), r"variables\['params'\]\['head'\].* is missing"),
        (sample(variables=wider), r"variables\['params'\].* has shape .*; accepted: "),
        (score(variables=wider), r"variables\['params'\].* has shape .*; accepted: "),
        (score(variables=params), "variables has no 'params'"),
        (score("picture"), "images is 'picture'; accepted: an array of numbers"),
        (score([[1, 2], [3]]), r"images is \[\[1, 2\], \[3\]\]; accepted: an array"),
        (score(None), "images is None; accepted: an array of numbers"),
        (elbo(num_samples=1.5), "num_samples is 1.5; accepted: whole numbers"),
        (elbo(kl=None), "kl is None; accepted: analytic, monte_carlo"),
        (invert(num_steps=5.5), "num_steps is 5.5; accepted: whole numbers"),
        (invert(num_starts="2"), "num_starts is '2'; accepted: whole numbers"),
        (invert(chunk_size=0), "chunk_size is 0; accepted: whole numbers"),
        (invert(learning_rate=float("inf")), r"learning_rate is inf; accepted: numbers in \(0"),
        (invert(prior_weight=float("nan")), r"prior_weight is nan; accepted: numbers in \[0"),
        (
            lambda: jax.jit(lambda n: sampling.sample(model, variables, KEY, n))(3),
            "num_images is a traced value.*; accepted: whole numbers",
        ),
        (
            lambda: jax.jit(lambda t: sampling.sample(model, variables, KEY, 2, temperature=t))(
                jnp.ones(2)
            ),
            r"temperature has shape \(2,\); accepted: one number",
        ),
        (
            lambda: sampling.complete(model, variables, KEY, images, images == 0, labels=1),
            "labels is .*; accepted, by a model without classes: None",
        ),
    ]


def test_wrong_calls():
    for call, message in calls():
        with one_line_error(message):
            call()


def test_parameters_that_are_not_finite_draw_nothing(pixels):
    """Named, and each array looked at once."""
    model, variables = pixels
    for bad in (np.nan, np.inf, -np.inf):
        for numbers in (np, jnp):
            broken = jax.tree.map(numbers.array, variables)
            out = broken["params"]["layers_0"]["out"]
            out["bias"] = numbers.array(np.where(np.arange(out["bias"].size) == 1, bad, 0.0))
            for call in (
                lambda v: sampling.sample(model, v, KEY, 2, labels=0),
                lambda v: sampling.complete(
                    model, v, KEY, np.zeros((2, *model.image_shape), int), False, labels=0
                ),
            ):
                with pytest.raises(
                    checks.NonFiniteError, match=r"\['out'\]\['bias'\] is not finite: .* 1 of 6 v"
                ):
                    call(broken)
    looked_at = []
    count = checks._not_finite
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_not_finite", lambda x: looked_at.append(x) or count(x))
        # NumPy's arrays may change at any time, and do not make others known.
        arrays = jax.tree.map(np.array, variables)
        for given, times in ((variables, 1), (arrays, 2), (variables, 0)):
            looked_at.clear()
            for _ in range(2):
                sampling.sample(model, given, KEY, 2, labels=0)
            assert len(looked_at) == times * len(jax.tree.leaves(variables))


@pytest.mark.quick
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
@pytest.mark.parametrize("count", [2, 128, 129, 256, 257, 65536])
def test_levels_in_range_whatever_their_type(count, dtype):
    limits = np.iinfo(dtype)
    values = np.array([-1, 0, 1, 127, 128, 255, 256, 65535, 65536, limits.min, limits.max])
    values = values[(values >= limits.min) & (values <= limits.max)]
    found = checks.in_range(jnp.asarray(values, dtype), count)
    expected = (values >= 0) & (values < count)
    assert expected.all() if found is None else (found == expected).all()
    assert (found is None) == (limits.min == 0 and limits.max < count)
