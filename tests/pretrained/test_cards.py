"""Cards say how a model is trained; one that is damaged or edited is one line."""

import json
import shlex

import jax
import pytest

import gen_jax
from gen_jax import models, pretrained
from gen_jax.models.shared.protocol import has_code
from gen_jax.scripts import train
from gen_jax.scripts.publish import training_command
from gen_jax.training.schema import check_run
from tests.pretrained.names import ANY, every_model


@every_model
def test_the_card_says_how_it_is_trained(name):
    """Its command gives the settings of its run, and nothing in it is of a machine."""
    card = pretrained.card(name)
    check_run(card.run, name)
    assert card.command == training_command(name, card.run)
    last = card.command.split(" && ")[-1]  # several, of a run that went on by other settings
    script, command, *arguments = shlex.split(last)
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
    with pytest.raises(
        ValueError, match=r"\.json (cannot be read|is no JSON object).*; accepted: "
    ) as caught:
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
