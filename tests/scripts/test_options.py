"""What the commands offer: each option that can be set, and none that cannot."""

import dataclasses
import typing
from typing import Any

import pytest

from gen_jax import likelihoods, models
from gen_jax.scripts import cli, complete, compress, evaluate, reconstruct, train
from gen_jax.scripts.presets import PRESETS
from gen_jax.training.state import OptimizerConfig, Schedule, make_schedule


def help_of(parse, *arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        parse([*arguments, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_offers_the_fields_of_its_model_and_likelihood(name, capsys):
    model = PRESETS[name].model
    text = help_of(train.parse, name, capsys=capsys)
    offered = {word.rstrip(",") for word in text.split() if word.startswith("--model.")}
    given = {"image_shape", "num_codes", "likelihood", "parent", "name"}
    fields = {field.name for field in dataclasses.fields(model)} - given
    likelihood: Any = model.likelihood
    fields |= {f"likelihood.{field.name}" for field in dataclasses.fields(likelihood)}
    assert offered == {f"--model.{field}".replace("_", "-") for field in fields}
    assert "{fixed}" not in text


@pytest.mark.parametrize("schedule", typing.get_args(Schedule))
@pytest.mark.parametrize(("option", "value"), [("final_fraction", 0.2), ("decay_rate", 0.9)])
def test_an_option_is_refused_by_the_schedules_that_do_not_read_it(schedule, option, value):
    configs = (
        OptimizerConfig(schedule=schedule),
        OptimizerConfig(schedule=schedule, **{option: value}),
    )
    rates = [float(make_schedule(config, 500)(400)) for config in configs]
    section = "--training.optimizer"
    arguments = [f"{section}.schedule={schedule}", f"{section}.{option}={value}"]
    if rates[0] == rates[1]:
        with pytest.raises(ValueError, match=f"{option} is {value}; accepted, by the schedule"):
            train.parse(["gated-pixelcnn-digits", *arguments])
    else:
        config = train.parse(["gated-pixelcnn-digits", *arguments]).training.optimizer
        assert getattr(config, option) == value


def test_a_likelihood_that_a_model_declares_anew_can_be_set():
    name = "pixelcnn-pp-digits"
    options = train.parse([name, "--model.likelihood.levels", "5", "--model.features=8"])
    expected = likelihoods.DiscretizedLogisticMixture(5, 5)
    assert options.model == PRESETS[name].model.clone(likelihood=expected, features=8)


@dataclasses.dataclass(frozen=True)
class Shifted(likelihoods.Categorical):
    """A likelihood of one's own."""

    shift: int = 0
    """By how many levels."""


class Own(models.PixelCNN):
    """A model of one's own, which declares fields of its base anew."""

    likelihood: likelihoods.Likelihood = Shifted(4)
    image_shape: tuple[int, int, int] = (4, 4, 1)
    depth: int = 2
    """A field of its own."""


@dataclasses.dataclass(frozen=True)
class Options:
    """A model of whatever class."""

    model: models.ImageModel


def test_a_model_of_ones_own_may_declare_fields_anew(capsys):
    def parse(arguments, **hidden):
        return cli.parse(Options, "own", arguments, default=Options(Own()), **hidden).model

    more = ["--model.likelihood.shift=2", "--model.depth=3", "--model.image-shape", "6", "6", "1"]
    assert parse(more) == Own(likelihood=Shifted(4, 2), depth=3, image_shape=(6, 6, 1))
    hidden = {models.ImageModel: ("image_shape",)}
    assert parse(more[:2], hidden=hidden) == Own(likelihood=Shifted(4, 2), depth=3)
    with pytest.raises(SystemExit):
        parse(more, hidden=hidden)
    assert "--model.image-shape" in capsys.readouterr().err


@pytest.mark.parametrize("script", [evaluate, complete, reconstruct, compress])
def test_scripts_on_images_say_what_they_take(script, capsys):
    text = help_of(script.main, capsys=capsys)
    assert script.Options.__doc__ in " ".join(text.split())
    assert "--data.data-dir" in text
    assert "--data-dir" not in text


def test_scripts_leave_the_models_as_they_are():
    """Of what an import changed nobody else would know."""
    assert models.ImageModel.__annotations__["likelihood"] is likelihoods.Likelihood
    assert models.ImageModel.__annotations__["image_shape"] == tuple[int, int, int]
