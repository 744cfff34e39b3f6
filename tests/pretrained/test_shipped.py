"""The shipped models: each loads by its name, samples and completes."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import gen_jax
from gen_jax import models, pretrained, sampling
from gen_jax.models.shared.protocol import has_code
from tests.heavy import HEAVY
from tests.pages import ROOT
from tests.pretrained.names import ANY, NAMES, every_model


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
    with pytest.raises(ValueError, match=r"holds no run.json; accepted: folders"):
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
