"""Precision reaches every matmul and convolution of the programs that are compiled."""

import contextlib
import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from gen_jax import sampling, training
from gen_jax.precision import matmul_precision
from gen_jax.sampling import draw
from gen_jax.sampling.methods import methods_of
from gen_jax.training import evaluation
from gen_jax.training.devices import abstract_state, compile_train_step

from .cases import MODELS, make, one_line_error, perturbed, some_images, some_labels
from .training import tiny
from .vaes import vae

KEY = jax.random.key(7)
OPTIMIZER = training.OptimizerConfig()
EACH = {name: make(name, "categorical", num_layers=1) for name in MODELS}
EACH["VAE"] = vae((4, 4, 1), 2, network="conv", hidden=(3, 4))

every_model = pytest.mark.parametrize("model", EACH.values(), ids=EACH)


def precisions(program):
    """How many matmuls and convolutions of a program have which precision."""
    found = {}
    for line in program.splitlines():
        if "stablehlo.dot_general" in line or "stablehlo.convolution" in line:
            first, second = re.findall(r"DEFAULT|HIGHEST|HIGH", line)  # of its two factors
            assert first == second
            found[first] = found.get(first, 0) + 1
    return found


def assert_precise(lower):
    """`lower(precision)` gives as many, all of which have what was asked for."""
    default, highest = (precisions(lower(p).as_text()) for p in ("default", "highest"))
    assert set(default) == {"DEFAULT"}
    assert highest == {"HIGHEST": default["DEFAULT"]}


@every_model
def test_sampling(model):
    """By every method."""
    variables, labels = perturbed(model), some_labels(model, 2)
    request = sampling.to_sample(model, variables, KEY, 2, labels=labels)
    request = request._replace(temperature=np.float32(1))
    compiled = draw._compiled("cpu")
    for method in methods_of(model) if hasattr(model, "blocks") else ("scan",):
        assert_precise(lambda p, m=method: compiled.lower(model, request, m, p, None, False))


def test_sampling_inside_another_jit():
    model = EACH["GatedPixelCNN"]
    variables, labels = perturbed(model), some_labels(model, 2)

    def inside(variables, precision):
        return sampling.sample(model, variables, KEY, 2, labels=labels, precision=precision)

    assert_precise(lambda p: jax.jit(inside, static_argnums=1).lower(variables, p))


@every_model
def test_evaluation_and_training(model):
    """The gradient too."""
    target = training.ELBO() if model is EACH["VAE"] else training.LogLikelihood()
    batch = {"images": some_images(model, 4), "mask": np.ones(4, bool)}
    if (labels := some_labels(model, 4)) is not None:
        batch["labels"] = labels
    params, fixed = perturbed(model)["params"], {"model": model, "objective": target}
    evaluate = evaluation._compiled_eval_step("cpu")
    assert_precise(lambda p: evaluate.lower(params, batch, KEY, **fixed, precision=p))
    one = training.make_mesh(jax.devices()[:1])
    state = abstract_state(model, OPTIMIZER, 3, one)

    def step(precision):
        compiled = compile_train_step(
            one, **fixed, optimizer=OPTIMIZER, num_steps=3, precision=precision
        )
        return compiled.lower(state, {k: v for k, v in batch.items() if k != "mask"}, KEY)

    assert_precise(step)


def test_inversion():
    """A jit inside the objective."""
    model = EACH["VAE"]
    batch = {"images": some_images(model, 2), "mask": np.ones(2, bool)}
    fixed = {"model": model, "objective": training.Inverted(num_starts=1, num_steps=1)}
    params, evaluate = perturbed(model)["params"], evaluation._compiled_eval_step("cpu")
    assert_precise(lambda p: evaluate.lower(params, batch, KEY, **fixed, precision=p))


def count_of_programs(call):
    """How many programs `call` compiles."""
    compiled = []

    def listen(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(call())
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(compiled)


def test_two_precisions_are_two_programs():
    """Whichever comes first, and each is compiled once; JAX's own setting is another."""
    model = make("PixelCNN", "bernoulli", (3, 3), num_layers=1)
    variables = perturbed(model)

    def sample(precision, setting=None):
        with contextlib.nullcontext() if setting is None else jax.default_matmul_precision(setting):
            return sampling.sample(model, variables, KEY, 3, precision=precision)

    assert count_of_programs(lambda: sample("default")) >= 1
    assert count_of_programs(lambda: sample("highest")) == 1
    assert count_of_programs(lambda: sample("default", "high")) == 1
    for setting in (None, "high"):
        assert count_of_programs(lambda s=setting: sample("default", s)) == 0
    assert count_of_programs(lambda: sample("highest")) == 0


def test_a_reported_score_is_precise_by_itself(monkeypatch):
    """Of `training.evaluate`, and of the validation of a training."""
    model, asked = tiny.MODEL, []
    compiled = evaluation._compiled_eval_step("cpu")

    def recording(*arguments, precision, **fixed):
        asked.append(precision)
        return compiled(*arguments, precision=precision, **fixed)

    monkeypatch.setattr(evaluation, "_compiled_eval_step", lambda platform: recording)
    params, target = perturbed(model)["params"], training.LogLikelihood(dropout=False)
    training.evaluate(model, params, tiny.evaluation(), KEY, target)
    assert set(asked) == {"highest"}


def test_default_leaves_the_setting_of_jax_alone():
    with jax.default_matmul_precision("high"):
        with matmul_precision("default"):
            assert jax.config.jax_default_matmul_precision == "high"
        with matmul_precision("highest"):
            assert jax.config.jax_default_matmul_precision == "highest"


def test_another_precision_is_refused():
    model = EACH["PixelCNN"]
    message = "precision is 'tf32'; accepted: default, highest"
    with one_line_error(message):
        sampling.sample(model, perturbed(model), KEY, 2, labels=[0, 1], precision="tf32")
    with one_line_error(message):
        training.TrainConfig(precision="tf32")


def test_a_run_of_before_goes_on(tmp_path):
    """Its run.json says nothing of precision; another one is another run."""
    constant = dataclasses.replace(tiny.OPTIMIZER, schedule="constant")  # whatever the steps
    config = dataclasses.replace(tiny.CONFIG, optimizer=constant)
    whole = tiny.train(tmp_path / "whole", config)
    tiny.train(tmp_path / "old", dataclasses.replace(config, steps=10))
    path = tmp_path / "old" / "run.json"
    record = json.loads(path.read_text())
    assert record["training"].pop("precision") == "default"
    path.write_text(json.dumps(record))
    other = dataclasses.replace(config, precision="highest")
    with one_line_error("training.precision is 'default' there, 'highest' here"):
        tiny.train(tmp_path / "old", other, resume=True)
    assert tiny.train(tmp_path / "old", config, resume=True) == whole
    tiny.assert_equal_runs(tmp_path / "old", tmp_path / "whole", config)
