"""The shipped models: each loads, scores as its card says, samples and completes."""

import configparser
import fnmatch
import json
import pathlib
import shlex
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import gen_jax
from gen_jax import models, pretrained, sampling
from gen_jax.models.shared.protocol import has_code
from gen_jax.pretrained import shipped
from gen_jax.scripts import train
from gen_jax.scripts.publish import training_command
from gen_jax.training.schema import check_run
from tests.heavy import HEAVY

ROOT = pathlib.Path(__file__).parents[2]
NAMES = pretrained.names()
ANY = "gated-pixelcnn-digits"

every_model = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of one shipped model, to be damaged, in the place of all of them."""
    for suffix in (".json", ".safetensors"):
        shutil.copy(pretrained.FOLDER / f"{ANY}{suffix}", tmp_path)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    return tmp_path


@every_model
def test_scores_fixed_images_as_its_card_says(name):
    card = pretrained.card(name)
    model, variables = gen_jax.load(name)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(variables))
    images, labels = pretrained.fixed_images(model)
    assert len(images) == len(card.check.nats) == 64
    assert card.check.measure == pretrained.fixed_measure(model)
    nats = pretrained.fixed_scores(model, variables, images, labels)
    np.testing.assert_allclose(nats, card.check.nats, rtol=2e-4, atol=2e-3)


@every_model
def test_samples_and_completes(name):
    """Images drawn are about as probable as test images; what is known of one stays."""
    card = pretrained.card(name)
    model, variables = gen_jax.load(name)
    given, labels = pretrained.fixed_images(model)
    given, labels = given[:2], None if labels is None else labels[:2]
    key = jax.random.key(0)
    if has_code(model):
        images = sampling.sample(model, variables, key, 2, labels=labels)
    else:
        # Of the first nothing is known, which is sampling, of the second the upper half: one
        # program, since compiling is what takes long.
        half = model.image_shape[0] // 2
        known = np.zeros((2, *model.image_shape[:2], 1), bool)
        known[1, :half] = True
        images = sampling.complete(model, variables, key, given, known, labels=labels)
        assert (np.asarray(images)[1, :half] == given[1, :half]).all()
        assert (np.asarray(images)[0] != given[0]).any()
    nats = pretrained.fixed_scores(model, variables, np.asarray(images), labels)
    assert (nats > 1.6 * card.test.nats).all()


@every_model
def test_the_card_says_how_it_is_trained(name):
    """Its command gives the settings of its run, and nothing in it is of a machine."""
    card = pretrained.card(name)
    check_run(card.run, name)
    assert card.command == training_command(name, card.run)
    script, command, *arguments = shlex.split(card.command)
    assert (script, command) == ("gen_jax", "train")
    options = train.parse(arguments)
    assert options.training.steps == card.steps >= card.step
    model = models.from_dict(card.run["model"])
    assert options.model.adapted(model.image_shape, 1) == model
    assert '"/' not in pretrained.path_of(name).read_text()  # no absolute path
    assert abs(card.weights.moved_nats) < 0.02
    classifies = model.num_classes is not None and not has_code(model)
    assert (card.test.accuracy is not None) == classifies
    assert card.weights.parameters == sum(
        leaf.size for leaf in jax.tree.leaves(gen_jax.load(name)[1])
    )


@pytest.mark.quick
def test_they_are_small_and_in_the_wheel():
    sizes = {p.name: p.stat().st_size for p in pretrained.FOLDER.iterdir() if p.is_file()}
    weights = {name: size for name, size in sizes.items() if name.endswith(".safetensors")}
    assert {name.removesuffix(".safetensors") for name in weights} == set(NAMES)
    assert max(weights.values()) <= 2e6
    assert sum(sizes.values()) <= 15e6
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["gen_jax"].split()
    for name in sizes:
        assert name.endswith(".py") or any(
            fnmatch.fnmatch(f"pretrained/{name}", pattern) for pattern in patterns
        ), name


@pytest.mark.quick
def test_loading_imports_nothing_heavy():
    code = f"""
import sys, gen_jax
model, variables = gen_jax.load({ANY!r})
print(sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY})))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.quick
def test_an_unknown_name_lists_the_names():
    wrong = ANY[:-1]
    for load in (gen_jax.load, pretrained.load):
        with pytest.raises(ValueError, match=f"did you mean {ANY}") as caught:
            load(wrong)
        assert all(name in str(caught.value) for name in NAMES)
        assert "\n" not in str(caught.value)


@pytest.mark.quick
def test_a_folder_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ANY).mkdir()
    with pytest.raises(ValueError, match=r"holds no run"):
        gen_jax.load(ANY)
    (tmp_path / ANY).rmdir()
    (tmp_path / ANY).write_text("a file is no folder")
    assert gen_jax.load(ANY)[0] == models.from_dict(pretrained.card(ANY).run["model"])


@pytest.mark.quick
def test_a_shipped_model_has_one_step_and_one_model():
    card = pretrained.card(ANY)
    model, _ = gen_jax.load(ANY, card.step)
    assert gen_jax.load(ANY, model=model)[0] == model
    for step in ("last", card.step + 1, True):
        with pytest.raises(ValueError, match=f"accepted: best, which is {card.step}"):
            gen_jax.load(ANY, step)
    with pytest.raises(ValueError, match=r"is another model: model\.dtype is 'float32' there"):
        gen_jax.load(ANY, model=model.clone(dtype="bfloat16"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, r"\.safetensors is damaged"),
        (flip, r"\.safetensors is damaged"),
        (pathlib.Path.unlink, r"\.safetensors cannot be read: No such file"),
    ],
)
def test_damaged_weights_are_one_line(folder, damage, said):
    damage(folder / f"{ANY}.safetensors")
    with pytest.raises(ValueError, match=said) as caught:
        gen_jax.load(ANY)
    assert "\n" not in str(caught.value)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("format", "gen_jax card 9", r"format is 'gen_jax card 9'; accepted: 'gen_jax card 1'"),
        ("step", "many", r"step is 'many'; accepted: an integer"),
        ("weights", None, r"weights is None; accepted: an object"),
        ("weights.sha256", "0", r"is damaged, or not of its card"),
        ("weights.dtype", "int8", r"weights\.dtype is 'int8'; accepted: 'float16' or"),
        ("check.nats", ["a"], r"check\.nats is \['a'\]; accepted: a list of a finite number"),
        ("test.nats", float("nan"), r"test\.nats is nan; accepted: a finite number"),
        ("run", [], r"run is \[\]; accepted: an object"),
        ("run.model", None, r"run\.model is None; accepted: a model"),
        ("run.model.model", "Pixel", r"model is 'Pixel'"),
        ("run.model.features", 1, r"is not of its weights: .* has shape"),
        ("run.model.features", "x", r"run\.model\.features is 'x'; accepted: an integer"),
        ("run.model.likelihood.levels", 2.5, r"run\.model\.likelihood\.levels is 2\.5; accepted"),
        ("run.model.likelihood.name", "Normal", r"run\.model: likelihood is 'Normal'"),
        ("run.model.depth", 1, r"run\.model\.depth is 1; accepted: no such field"),
        ("colour", "red", r"colour is 'red'; accepted: no such field"),
    ],
)
def test_an_edited_card_is_one_line(folder, name, value, said):
    path = folder / f"{ANY}.json"
    card = json.loads(path.read_text())
    *parents, last = name.split(".")
    part = card
    for parent in parents:
        part = part[parent]
    part[last] = value
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=said) as caught:
        gen_jax.load(ANY)
    assert "\n" not in str(caught.value)
    assert str(path.parent) in str(caught.value)


@pytest.mark.quick
@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 100_000, "\xff"])
def test_a_card_that_is_none_is_one_line(folder, text):
    (folder / f"{ANY}.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"\.json is (damaged|no card)") as caught:
        gen_jax.load(ANY)
    assert "\n" not in str(caught.value)


@pytest.mark.quick
def test_a_card_without_a_field_names_it(folder):
    path = folder / f"{ANY}.json"
    card = json.loads(path.read_text())
    del card["weights"]["sha256"]
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"has no weights\.sha256"):
        gen_jax.load(ANY)


@pytest.mark.quick
def test_fixed_images_are_digits_of_the_models_kind():
    """Binary images of MNIST's size keep what the small digits are: a third of the ink inside."""
    small, _ = pretrained.fixed_images(
        models.PixelCNN((8, 8, 1), gen_jax.likelihoods.Categorical(17))
    )
    digits = gen_jax.data.load("digits").test.images[:64]
    np.testing.assert_array_equal(small, digits)
    large, labels = pretrained.fixed_images(
        models.PixelCNN((28, 28, 1), gen_jax.likelihoods.Bernoulli(), num_classes=10)
    )
    assert large.shape == (64, 28, 28, 1)
    assert labels is not None
    assert set(np.unique(large)) == {0, 1}
    assert not large[:, :4].any()
    assert not large[:, 24:].any()
    # Each large digit is nearest to its own small one, at the middles of whose pixels it stands.
    places = 4 + (np.arange(8) * 20 + 10) // 8
    thumbs = large[:, places][:, :, places].reshape(64, -1).astype(float)
    flat = (digits.reshape(64, -1) > 8).astype(float)
    nearest = ((thumbs[:, None] - flat) ** 2).sum(-1).argmin(axis=1)
    assert (nearest == np.arange(64)).mean() > 0.9
