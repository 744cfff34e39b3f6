"""The codec: that it decodes, how small its files are, and what it refuses."""

import dataclasses
import functools
import sys
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gen_jax import codec, likelihoods, models, objectives, pretrained
from gen_jax.checks import NonFiniteError
from gen_jax.codec import coding
from gen_jax.codec.container import Stream, levels_crc
from gen_jax.data import load
from tests.cases import make, one_line_error, perturbed, some_images, some_labels
from tests.codec.twofold import Twofold
from tests.likelihood_cases import Geometric

# Whole images.

CASES = {
    "groups": functools.partial(make, "GatedPixelCNN", "categorical-rgb"),
    "classes": functools.partial(make, "PixelCNN", "mixture-rgb"),
    "padding": functools.partial(make, "ImageTransformer-1d", "bernoulli"),
    "rows": functools.partial(make, "RowLSTM", "bernoulli"),
    "phases": functools.partial(Twofold, (4, 3, 1), Geometric(), features=1),
}
"""One of each of what may differ between models."""
BATCHES = {"padding": 1}
"""Images coded together, where not 4: of one size for each model, as programs are compiled for."""


@functools.cache
def case(name):
    """A model, its variables, nine images and labels, and −log2 p of each by its other view."""
    model = CASES[name]()
    variables, images, labels = perturbed(model), some_images(model, 9), some_labels(model, 9)
    bits = None
    if not isinstance(model, Twofold):  # which has no other
        nats = jax.jit(objectives.log_likelihood, static_argnums=0)(
            model, variables, images, labels
        )
        bits = -np.asarray(nats, np.float64) / np.log(2)
    images, labels = np.asarray(images, np.uint8), None if labels is None else np.asarray(labels)
    return model, variables, images, labels, bits


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 8), max_size=9).map(tuple))
@example("groups", (*range(9),))
@example("classes", (*range(6),))
@example("padding", (*range(5),))
@example("rows", (*range(7),))
@example("phases", (*range(7),))
@example("classes", ())
def test_what_is_decoded_is_what_was_encoded(name, chosen):
    """And takes as many bits as the model says, by its other view."""
    model, variables, images, labels, bits = case(name)
    batch, count = BATCHES.get(name, 4), len(chosen)
    # One size of batches, the last of which may be padded.
    count = -(-count // batch) * batch - (count % 2 if count > batch > 1 else 0)
    index = np.resize(np.array(chosen, int), count)
    images, labels = images[index], None if labels is None else labels[index]
    data = codec.compress(model, variables, images, labels, batch_size=batch)
    found, classes = codec.decompress(model, variables, data)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, images)
    if labels is None:
        assert classes is None
    else:
        np.testing.assert_array_equal(classes, labels)
    if bits is not None and count:
        total = bits[index].sum()
        held = codec.parse(data)
        streams = 8 * sum(len(stream.data) for stream in held.streams)
        assert 0.999 * total - 1 <= streams <= 1.005 * total + 64 * len(held.streams)
        batches = -(-count // batch)
        assert len(data) <= streams / 8 + 120 + 12 * batches + (count if labels is not None else 0)


def test_a_file_is_hardly_larger_than_the_likelihood_says():
    """Of the test images of a model as it is shipped, header and all."""
    model, variables = pretrained.load("gated-pixelcnn-digits")
    images = load("digits").test.images
    score = jax.jit(objectives.log_likelihood, static_argnums=0)
    nats = score(model, variables, images)
    size = -float(np.sum(np.asarray(nats, np.float64))) / np.log(2) / 8
    content = codec.compress(model, variables, images)
    assert len(content) <= 1.005 * size + 4 * len(images) + 200


@functools.cache
def compressed():
    """A model, its variables, images and labels, and the file of them."""
    model, variables, images, labels, _ = case("classes")
    images, labels = images[:7], labels[:7]
    data = codec.compress(model, variables, images, labels, batch_size=4)
    return model, variables, images, labels, data


def test_above_256_levels_and_the_progress():
    model = make("PixelCNN", "bernoulli", (2, 2), likelihood=likelihoods.Categorical(1000))
    variables, images, seen = perturbed(model), some_images(model, 3), []
    data = codec.compress(model, variables, images, progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]
    found, _ = codec.decompress(model, variables, data, progress=lambda *at: seen.append(at))
    assert seen[2:] == [(1, 2), (2, 2)]
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, images)


# What is refused.


def test_labels_are_stored():
    model, variables, images, labels, data = compressed()
    held = codec.parse(data)
    assert held.count == 7
    assert held.image_shape == model.image_shape
    np.testing.assert_array_equal(held.labels, labels)
    other = codec.compress(model, variables, images, 1 - labels, batch_size=4)
    np.testing.assert_array_equal(codec.parse(other).labels, 1 - labels)


def refused(match, data=None, model=None, variables=None, **options):
    own_model, own_variables, *_, own_data = compressed()
    with one_line_error(match):
        codec.decompress(
            own_model if model is None else model,
            own_variables if variables is None else variables,
            own_data if data is None else data,
            **options,
        )


def test_another_model_is_refused():
    model = compressed()[0]
    refused("data is of another model", variables=perturbed(model, 1))
    leaves, form = jax.tree.flatten(compressed()[1])
    leaves[-1] = jnp.nextafter(leaves[-1], jnp.inf)
    last = jax.tree.unflatten(form, leaves)
    refused("data is of another model", variables=last)
    wider = make("PixelCNN", "mixture-rgb", (3, 5))
    refused(
        "data holds images of 3×4×3, 5 levels and 2 classes",
        model=wider,
        variables=perturbed(wider),
    )
    deeper = make("PixelCNN", "mixture-rgb", dropout=0.5)
    refused("data is of another model", model=deeper, variables=perturbed(deeper))


def test_a_field_that_a_later_version_adds_changes_nothing(monkeypatch):
    """At its default, of the model or of its likelihood; at another value it is another model."""
    model, variables = compressed()[:2]
    before = coding._model_fingerprint(model, variables)

    class PixelCNN(models.PixelCNN):
        later: int = 3

    @dataclasses.dataclass(frozen=True)
    class DiscretizedLogisticMixture(likelihoods.DiscretizedLogisticMixture):
        later: float = 0.5

    for table, kind in (
        (models.MODELS, PixelCNN),
        (models.LIKELIHOODS, DiscretizedLogisticMixture),
    ):
        monkeypatch.setitem(table, kind.__name__, kind)
    likelihood = DiscretizedLogisticMixture(**dataclasses.asdict(model.likelihood))
    names = {f.name for f in dataclasses.fields(model) if f.init} - {"parent", "name"}
    fields = {name: getattr(model, name) for name in names} | {"likelihood": likelihood}
    later = PixelCNN(**fields)
    assert coding._model_fingerprint(later, variables) == before
    assert coding._model_fingerprint(later.clone(later=4), variables) != before
    other = dataclasses.replace(likelihood, later=0.25)
    assert coding._model_fingerprint(later.clone(likelihood=other), variables) != before


def test_another_machine_is_refused_before_anything_is_compiled(monkeypatch):
    data = compressed()[-1]
    held = codec.parse(data)
    monkeypatch.setattr(coding, "next_site", None)
    for change in ({"platform": "gpu"}, {"versions": "0"}, {"machine": b"nowhere!"}):
        prints = held.fingerprints._replace(**change)
        moved = dataclasses.replace(held, fingerprints=prints).to_bytes()
        refused("data was compressed with .*; accepted: the same, or force", moved)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"platform": "gpu"}, r"platform gpu \(here cpu\)"),
        ({"versions": "0.1/0.1/0.1"}, r"JAX/jaxlib/constriction 0.1/0.1/0.1 \(here "),
        ({"machine": b"nowhere!"}, "another kind or number of processors"),
        ({"programs": b"programs"}, "other programs than here"),
    ],
)
def test_another_machine_is_refused_unless_forced(change, match):
    model, variables, images, _, data = compressed()
    held = codec.parse(data)
    prints = held.fingerprints._replace(**change)
    moved = dataclasses.replace(held, fingerprints=prints).to_bytes()
    refused(match, moved)
    found, _ = codec.decompress(model, variables, moved, force=True)
    np.testing.assert_array_equal(found, images)


def test_other_levels_are_never_given_out():
    """Streams that are whole, but decode to what was not compressed: as where rounding differs."""
    _, _, images, _, data = compressed()
    held = codec.parse(data)
    first, second = held.streams
    for stream in (
        Stream(first.data, first.levels_crc ^ 1),
        Stream(second.data, first.levels_crc),
        Stream(np.random.default_rng(0).bytes(len(first.data)), first.levels_crc),
        Stream(b"\xff" * len(first.data), first.levels_crc),
        Stream(b"", first.levels_crc),
    ):
        other = dataclasses.replace(held, streams=[stream, second]).to_bytes()
        refused(r"images 0 … 3 of data decode to others than were compressed", other)
        refused(r"images 0 … 3 of data decode to others than were compressed", other, force=True)
    assert first.levels_crc == levels_crc(images[:4], 5)
    assert first.levels_crc == zlib.crc32(images[:4].astype(np.uint8).tobytes())


def test_mistakes_are_one_line(monkeypatch):
    model, variables, images, labels, _ = compressed()

    def wrong(match, *arguments, **options):
        with one_line_error(match):
            codec.compress(*arguments, **options)

    wrong("labels is None; accepted", model, variables, images)
    wrong("images goes from", model, variables, images + 5, labels)
    wrong("images has shape", model, variables, images[0], labels)
    wrong("batch_size is 2000; accepted", model, variables, images, labels, batch_size=2000)
    wrong("variables has no 'params'", model, {}, images, labels)
    vae = models.VAE((4, 4, 1), likelihoods.Bernoulli(), num_latents=2)
    wrong("model is VAE; accepted: an autoregressive model", vae, {}, images)

    class Whole(nn.Module):
        image_shape: tuple = (2, 2, 1)
        likelihood: object = likelihoods.Bernoulli()

        def __call__(self, images, labels=None):
            return jnp.zeros((*images.shape, 1))

    wrong("model is Whole; accepted: one with a next-site view", Whole(), {}, images)
    refused("data is a str", data="text")
    refused("force is 'yes'; accepted", force="yes")
    infinite = jax.tree.map(lambda x: x * jnp.inf, variables)
    with pytest.raises(NonFiniteError):
        codec.compress(model, infinite, images, labels)
    huge = jax.tree.map(lambda x: jnp.full_like(x, 1e30), variables)
    with pytest.raises(NonFiniteError, match="probabilities of site 0 are not finite, by PixelCNN"):
        codec.compress(model, huge, images, labels, batch_size=4)
    with one_line_error("traced, inside a jit"):
        jax.jit(lambda v: codec.compress(model, v, images, labels))(variables)
    monkeypatch.setitem(sys.modules, "constriction", None)
    wrong(r"pip install 'gen_jax\[codec\]'", model, variables, images, labels)
    refused(r"pip install 'gen_jax\[codec\]'")
