"""experiments.reconstruct, and the other scripts on auto-encoders."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import gen_jax
from gen_jax import data, likelihoods, models, objectives, training
from gen_jax.scripts import evaluate, reconstruct, runs, sample, train
from tests.cases import perturbed, some_images
from tests.scripts.conftest import TINY_CODES
from tests.vaes import vae

BITS = likelihoods.Bernoulli()


@pytest.fixture(scope="module")
def split():
    return data.load(data.DataConfig("digits", size=(4, 4))).test


def test_errors_are_those_of_the_codes(tiny_vae_run, split):
    result = reconstruct.reconstruct(
        reconstruct.Options(str(tiny_vae_run), num_images=7, num_steps=20, num_starts=2, plane=3)
    )
    assert json.loads((tiny_vae_run / "reconstructions-test.json").read_text()) == result
    model, variables = gen_jax.load(tiny_vae_run)
    codes = model.apply(variables, split.images[:7], method="encode").loc
    fit = np.asarray(objectives.reconstruction(model, variables, codes, split.images[:7]))
    assert result["encoder"]["nats"] == pytest.approx(fit.mean(), rel=1e-5)
    assert result["encoder"]["nats_standard_error"] == pytest.approx(
        fit.std(ddof=1) / np.sqrt(7), rel=1e-4
    )
    assert set(result) == {
        "split",
        "data",
        "fingerprint",
        "images",
        "precision",
        "search",
        "step",
        "encoder",
        "inversion",
    }
    for name in ("reconstructions-test", "interpolations", "plane"):
        assert (tiny_vae_run / f"{name}.png").stat().st_size > 500


def test_a_vae_is_scored_by_both_bounds(tiny_vae_run, split):
    result = evaluate.evaluate(
        evaluate.Options(str(tiny_vae_run), batch_size=100, num_samples=30, chunk_size=8)
    )
    assert result["images"] == len(split) == 250
    assert result["nats"] == pytest.approx(result["reconstruction"] - result["kl"], rel=1e-5)
    assert len(result["kl_per_latent"]) == 2
    assert result["iwae_samples"] == 30
    assert 0 <= result["active_units"] <= 2
    model, variables = gen_jax.load(tiny_vae_run)
    many = objectives.iwae_bound(model, variables, jax.random.key(9), split.images, num_samples=30)
    assert result["iwae_nats"] == pytest.approx(float(np.mean(many)), rel=5e-3)
    assert result["iwae_nats"] > result["nats"]
    assert result["objective"] == training.target_to_dict(training.ELBO())


@pytest.mark.parametrize(
    ("model", "unread"),
    [
        (models.VAE((4, 4, 1), BITS, num_latents=2), set()),
        (models.VAE((4, 4, 1), BITS, num_latents=3), {"plane"}),
        (models.AutoEncoder((4, 4, 1), BITS, num_latents=2), {"prior_weight"}),
        (
            models.VAE((4, 4, 1), BITS, num_latents=2, latents="bernoulli"),
            {"num_starts", "num_steps", "prior_weight", "plane"},
        ),
    ],
)
def test_options_of_what_is_not_done_are_refused(model, unread):
    given = {"num_starts": 1, "num_steps": 1, "prior_weight": 0.0, "plane": 1}
    for name, value in given.items():
        options = reconstruct.Options("run", **{name: value})
        if name in unread:
            with pytest.raises(ValueError, match=f"{name} is {value}; accepted, by this"):
                reconstruct.check(options, model)
        else:
            reconstruct.check(options, model)
    reconstruct.check(reconstruct.Options("run"), model)


def test_samples_and_their_means(tiny_vae_run):
    sample.sample(sample.Options(str(tiny_vae_run), num_images=9, chunk_size=4))
    assert np.load(tiny_vae_run / "samples.npz")["images"].shape == (9, 4, 4, 1)
    assert (tiny_vae_run / "sample-means.png").stat().st_size > 300


@pytest.mark.parametrize(
    ("preset", "ways"),
    [
        ("autoencoder-digits", {"encoder", "inversion"}),
        ("implicit-autoencoder-digits", {"inversion"}),
        ("discrete-vae-mnist", {"encoder"}),
    ],
)
def test_every_kind_goes_through_every_script(tmp_path, preset, ways):
    # Few are held out: each of them is encoded by hundreds of steps of an optimizer.
    options = [*TINY_CODES, f"--workdir={tmp_path / 'run'}", "--training.eval-batch-size=20"]
    options += ["--data.validation=20", "--data.test=20"]
    if preset == "discrete-vae-mnist":
        options += ["--data.name=digits", "--data.binarize=threshold"]
    train.main([preset, *options])
    workdir = str(tmp_path / "run")
    result = evaluate.evaluate(evaluate.Options(workdir, batch_size=20))
    assert result["images"] == 20
    model, variables = gen_jax.load(workdir)
    if preset == "implicit-autoencoder-digits":
        assert model.num_codes == len(variables["params"]["codes"]) == 1797 - 40
    search = {} if preset == "discrete-vae-mnist" else {"num_steps": 5, "num_starts": 1, "plane": 3}
    result = reconstruct.reconstruct(reconstruct.Options(workdir, num_images=4, **search))
    about = {"split", "data", "fingerprint", "images", "precision", "search", "step"}
    assert set(result) - about == ways
    if search:  # what decides the codes found is said
        assert result["search"].items() >= {"num_steps": 5, "num_starts": 1, "seed": 0}.items()
    if preset == "implicit-autoencoder-digits":
        learned = reconstruct.reconstruct(
            reconstruct.Options(workdir, "train", num_images=4, num_steps=5, num_starts=1, plane=3)
        )
        codes = variables["params"]["codes"][:4]
        config = data.DataConfig("digits", size=(4, 4), validation=20, test=20)
        images = data.load(config).train.images[:4]
        fit = objectives.reconstruction(model, variables, codes, images)
        assert learned["learned"]["nats"] == pytest.approx(float(fit.mean()), rel=1e-5)
    if preset != "autoencoder-digits":
        sample.sample(sample.Options(workdir, num_images=4))
        assert (tmp_path / "run" / "samples.png").stat().st_size > 300


def test_the_plane_and_the_lines_are_of_the_codes_they_say(tmp_path, monkeypatch):
    """First latent to the right, second up, at the prior's quantiles; lines from image to image."""
    model = vae((2, 2, 1), 2)
    run = runs.Run(training.Workdir(tmp_path), {}, model, perturbed(model), 0)
    drawn = []
    monkeypatch.setattr(
        reconstruct.figures, "save_grid", lambda images, *_, **__: drawn.append(images) or tmp_path
    )
    codes = jnp.asarray([[0.5, -1.0], [2.0, 0.3], [-1.0, 0.0], [0.1, 0.2]])
    images = np.asarray(some_images(model, 4))

    def decoded(codes):
        codes = jnp.asarray(codes, jnp.float32).reshape(-1, 2)
        logits = model.apply(run.variables, codes, method="decode")
        return np.asarray(model.likelihood.mean(logits, 1))

    reconstruct.save_plane(run, codes, 3, tmp_path / "plane.png")
    low, high = scipy.stats.norm.ppf([1 / 6, 5 / 6])
    corners = [(low, high), (high, high), (low, low), (high, low)]
    np.testing.assert_allclose(drawn[0][[0, 2, 6, 8]], decoded(corners), rtol=1e-5)
    reconstruct._interpolate(run, codes, images, None, tmp_path)
    rows = np.asarray(drawn[1]).reshape(2, 14, 2, 2, 1)
    np.testing.assert_array_equal(rows[:, 0], images[::2])
    np.testing.assert_array_equal(rows[:, -1], images[1::2])
    np.testing.assert_allclose(rows[:, 1], decoded(codes[::2]), rtol=1e-5)
    np.testing.assert_allclose(rows[:, -2], decoded(codes[1::2]), rtol=1e-5)
    third = codes[0] + (codes[1] - codes[0]) * 3 / 11
    np.testing.assert_allclose(rows[0, 4], decoded(third)[0], rtol=1e-5)
