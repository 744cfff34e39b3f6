"""experiments.evaluate: the whole split, counted once, written down with what it is."""

import json

import jax
import numpy as np
import pytest

import gen_jax
from gen_jax import data, objectives
from gen_jax.scripts import evaluate
from tests.scripts.conftest import command


def test_evaluates_the_whole_test_split(tiny_run):
    result = command("evaluate", tiny_run, "--batch-size=64")
    assert result.returncode == 0, result.stderr
    written = json.loads((tiny_run / "evaluation-test.json").read_text())
    assert f"test: -log p(x) {written['bits_per_dim']:.4f}" in result.stdout
    model, variables = gen_jax.load(tiny_run)
    split = data.load(data.DataConfig("digits", size=(4, 4))).test
    nats = np.asarray(objectives.log_likelihood(model, variables, split.images), np.float64)
    assert written["images"] == len(split) == 250
    assert written["nats"] == pytest.approx(nats.mean(), rel=1e-5)
    assert written["nats_standard_error"] == pytest.approx(
        nats.std(ddof=1) / np.sqrt(250), rel=1e-5
    )
    assert written["bits_per_dim"] == pytest.approx(-nats.mean() / (16 * np.log(2)), rel=1e-5)
    assert written["data"] == "digits"
    assert written["split"] == "test"
    assert written["binarization"] == "none"
    assert written["precision"] == "highest"
    assert written["parameters"] == sum(x.size for x in jax.tree.leaves(variables))
    assert (tiny_run / "surprise-test.png").stat().st_size > 1000


def test_accuracy_is_that_of_bayes_rule(tiny_class_run):
    result = evaluate.evaluate(evaluate.Options(str(tiny_class_run), batch_size=100))
    model, variables = gen_jax.load(tiny_class_run)
    split = data.load(data.DataConfig("digits", size=(4, 4))).test
    assert split.labels is not None
    scores = [
        objectives.log_likelihood(
            model, variables, split.images, np.full(len(split), label, np.int32)
        )
        for label in range(10)
    ]
    guesses = np.argmax(np.stack(scores), axis=0)
    assert result["accuracy"] == pytest.approx(np.mean(guesses == split.labels))
