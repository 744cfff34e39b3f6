"""gen_jax publish: from a run to a model that loads by its name, in code and in the scripts."""

import json
import shutil

import jax
import numpy as np
import pytest

import gen_jax
from gen_jax import data, objectives, pretrained, training
from gen_jax.pretrained import shipped
from gen_jax.scripts import complete, evaluate, publish, reconstruct, sample, train
from gen_jax.scripts.presets import PRESETS
from tests.scripts.conftest import command, train_tiny


def test_a_published_model_is_that_of_the_run(tiny_run, models):
    """Within half precision, and so are its scores; its card says what `evaluate` says of it."""
    model, variables = gen_jax.load(tiny_run)
    same, rounded = pretrained.load("tiny", models)
    assert model == same
    card = pretrained.card("tiny", models)
    assert card.weights.dtype == "float16"
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2.0**-11, atol=6e-8), variables, rounded
    )
    dataset = data.load(data.DataConfig("digits", size=(4, 4)))
    nats = objectives.log_likelihood(model, variables, dataset.test.images)
    after = np.asarray(objectives.log_likelihood(model, rounded, dataset.test.images), np.float64)
    assert card.test.nats == pytest.approx(after.mean(), rel=1e-6)
    assert card.test.nats_standard_error == pytest.approx(after.std(ddof=1) / 250**0.5, rel=1e-5)
    assert card.weights.moved_nats == pytest.approx(float(np.mean(after - nats)), abs=1e-4)
    assert 0 < abs(card.weights.moved_nats) < 0.02
    assert (card.test.images, card.selection.images, card.steps) == (250, 250, 4)
    assert card.epochs == pytest.approx(4 * 16 / 1297)
    assert card.run["data"]["fingerprint"] == dataset.fingerprint


def test_its_command_trains_it(models, tiny_run, tmp_path):
    """Run as it stands, it gives the run again: every setting that differs from the preset."""
    arguments = pretrained.card("tiny", models).command.split()[2:]
    assert arguments[0] == "gated-pixelcnn-digits"
    train.main([*arguments, f"--workdir={tmp_path / 'again'}"])
    for leaf, same in zip(
        jax.tree.leaves(gen_jax.load(tiny_run)[1]),
        jax.tree.leaves(gen_jax.load(tmp_path / "again")[1]),
        strict=True,
    ):
        np.testing.assert_array_equal(leaf, same)


@pytest.mark.quick
@pytest.mark.parametrize("name", PRESETS)
def test_the_command_of_a_preset_is_its_name(name):
    record = publish.record_of(PRESETS[name])
    assert publish.training_command(name, record) == f"gen_jax train {name}"


@pytest.mark.quick
def test_a_command_says_what_differs():
    record = publish.record_of(PRESETS["vae-mnist"])
    record["model"]["hidden"] = [300, 100]
    record["training"]["optimizer"]["clip_norm"] = None
    record["data"]["config"]["flip"] = True
    record["objective"]["beta"] = 0.5
    assert publish.training_command("another", record) == (
        "gen_jax train vae-mnist --model.hidden 300 100 --objective.beta 0.5 --data.flip "
        "--training.optimizer.clip-norm None"
    )
    record["data"]["config"]["name"] = "-x.npz"
    assert "--data.flip --data.name=-x.npz " in publish.training_command("another", record)
    record["training"]["optimizer"] |= {"schedule": "constant", "final_fraction": 0.1}
    with pytest.raises(
        ValueError, match=r"gen_jax train .* constant .*: final_fraction is 0\.1; acc"
    ):
        publish.training_command("another", record)
    record["objective"]["name"] = "mine.loss"
    with pytest.raises(
        ValueError, match=r"no preset trains a VAE with likelihood Bernoulli by mine\.loss; acc"
    ):
        publish.training_command("another", record)


def test_the_command_of_a_run_that_went_on_otherwise_is_each_of_its_own(tmp_path):
    """As they stand, they give the run again, where each had come to its last step."""
    workdir, again = tmp_path / "run", tmp_path / "again"
    train_tiny(workdir, "--training.steps=2")
    train_tiny(workdir, "--resume")
    command = publish.training_command("gated-pixelcnn-digits", training.Workdir(workdir).read())
    commands = [line.split()[2:] for line in command.split(" && ")]
    assert [("--resume" in line) for line in commands] == [False, True]
    for line in commands:
        train.main([*line, f"--workdir={again}"])
    for path in (workdir, again):
        assert [stage["until"] for stage in training.Workdir(path).read()["earlier"]] == [2]
    jax.tree.map(np.testing.assert_array_equal, gen_jax.load(workdir)[1], gen_jax.load(again)[1])


@pytest.mark.quick
def test_a_command_says_where_it_was_stopped():
    """No command that there is gives the run again: a shell refuses it."""
    record = publish.record_of(PRESETS["pixelcnn-mnist"])
    before = {**record["training"], "steps": 9000}
    record["earlier"] = [{"until": 512, "training": before}]
    assert publish.training_command("pixelcnn-mnist", record) == (
        "gen_jax train pixelcnn-mnist --training.steps 9000 (stopped at step 512) && "
        "gen_jax train pixelcnn-mnist --resume"
    )


def test_every_script_takes_its_name(by_name, capsys):
    """Results go to results/NAME, or to --output; the weights' folder is left alone."""
    before = sorted(shipped.FOLDER.iterdir())
    path = sample.sample(sample.Options("tiny", num_images=4, animate=False))
    assert path == by_name / "results" / "tiny" / "samples.npz"
    assert f"tiny is a shipped model: results go to {path.parent}" in capsys.readouterr().out
    sample.sample(sample.Options("tiny", num_images=4, animate=False, output=str(by_name / "out")))
    assert "results go to" not in capsys.readouterr().out
    with np.load(by_name / "out" / "samples.npz") as again, np.load(path) as first:
        np.testing.assert_array_equal(again["images"], first["images"])
        assert first["step"] == pretrained.card("tiny").step
    complete.main(["tiny", "--num-images=2", "--num-completions=1"])
    assert (path.parent / "completions.png").exists()
    scored = evaluate.evaluate(evaluate.Options("tiny"))
    assert scored["nats"] == pretrained.card("tiny").test.nats
    reconstruct.main(["tiny-vae", "--num-images=4", "--num-steps=2", "--plane=3"])
    assert (by_name / "results" / "tiny-vae" / "plane.png").exists()
    assert sorted(shipped.FOLDER.iterdir()) == before


def test_what_more_a_card_says_of_codes(by_name):
    vae = pretrained.card("tiny-vae").test
    assert (vae.measure, vae.iwae_samples) == ("-ELBO", 3)
    assert vae.iwae_nats != vae.nats
    assert vae.iwae_nats == pytest.approx(vae.nats, abs=0.1)  # both are estimates


def test_a_run_starts_from_it(by_name):
    workdir = by_name / "new"
    train_tiny(workdir, "--init-from=tiny", "--training.optimizer.learning-rate=1e-12")
    model, variables = gen_jax.load(workdir)
    assert model == gen_jax.load("tiny")[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), variables, gen_jax.load("tiny")[1]
    )


def test_mistakes_with_names_are_one_line(by_name):
    for line, arguments in {
        "did you mean tiny": ["tiy"],
        "step is 'last'; accepted: best, which is": ["tiny", "--step=last"],
    }.items():
        with pytest.raises(ValueError, match=line):
            sample.main(arguments)
        with pytest.raises(ValueError, match=line):
            evaluate.main(arguments)
    (by_name / "tiny").mkdir()
    with pytest.raises(ValueError, match=r"holds no run.json"):
        complete.main(["tiny"])


def test_an_edited_run_in_a_card_is_one_line(by_name, models, tmp_path, monkeypatch):
    copy = shutil.copytree(models, tmp_path / "copy")
    monkeypatch.setattr(shipped, "FOLDER", copy)
    card = json.loads((copy / "tiny.json").read_text())
    card["run"]["training"]["steps"] = "many"
    (copy / "tiny.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"tiny\.json: run: training\.steps is 'many'"):
        evaluate.main(["tiny"])


@pytest.mark.quick
@pytest.mark.parametrize("folder", ["/home/me/mnist", "~/mnist"])
def test_images_of_ones_own_are_not_taken_for_a_known_set(folder):
    """Nothing of a machine is left of a path, and what is left is a path still."""
    record = {**publish.record_of(PRESETS["vae-mnist"]), "versions": {}}
    record["data"]["config"]["name"] = folder
    portable = publish._portable({**record, "init_from": {"run": "/home/me/runs/a/.."}})
    assert portable["data"]["config"]["name"] == "./mnist"
    assert portable["init_from"]["run"] == "runs"
    with pytest.raises(
        ValueError, match=r"licence of the data .* not known; accepted: .* --licence"
    ):
        publish._licence(publish.Options("run", "name"), record)


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the run, to be spoiled."""
    return shutil.copytree(tiny_run, tmp_path / "run")


def test_what_is_not_finished_is_refused(run, tmp_path):
    record = json.loads((run / "run.json").read_text())
    record["training"]["steps"] = 5
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"is at step 4 of 5; .* let it finish first"):
        publish.main([str(run), "tiny", f"--output={tmp_path}"])
    assert not list(tmp_path.glob("tiny*"))


def test_settings_that_took_no_step_are_not_published(run, tmp_path):
    """A finished run was told to go on otherwise, and had nothing to go on with."""
    train_tiny(run, "--resume", "--training.optimizer.learning-rate=1e-9")
    publish.main([str(run), "tiny", f"--output={tmp_path}"])
    card = pretrained.card("tiny", tmp_path)
    assert "resume" not in card.command
    assert card.run["earlier"] == []
    assert card.run["training"]["optimizer"]["learning_rate"] > 1e-9


def test_the_data_may_have_moved(tmp_path):
    file, moved, workdir = tmp_path / "mine.npz", tmp_path / "elsewhere.npz", tmp_path / "run"
    images = np.random.default_rng(0).integers(17, size=(100, 4, 4, 1), dtype=np.uint8)
    np.savez(file, images=images)
    train_tiny(workdir, f"--data.name={file}", "--data.values=levels", "--data.levels=17")
    file.rename(moved)
    arguments = [str(workdir), "tiny", f"--output={tmp_path}", "--licence=mine"]
    with pytest.raises(ValueError, match=r"accepted too: --data\.name, where the data are now"):
        publish.main(arguments)
    np.savez(tmp_path / "others.npz", images=images[::-1])
    with pytest.raises(ValueError, match=r"others\.npz is not the data of this run"):
        publish.main([*arguments, f"--data.name={tmp_path / 'others.npz'}"])
    publish.main([*arguments, f"--data.name={moved}"])
    card = pretrained.card("tiny", tmp_path)
    assert card.run["data"]["config"]["name"] == "./mine.npz"
    assert "--data.name ./mine.npz" in card.command


def test_a_published_model_is_no_run(by_name):
    with pytest.raises(ValueError, match="tiny is published; accepted: the folder of a finished"):
        publish.main(["tiny", "again", f"--output={by_name}"])
    with pytest.raises(ValueError, match="nowhere holds no model; accepted: what gen_jax publish"):
        pretrained.load("tiny", by_name / "nowhere")


def test_what_was_not_validated_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(publish.training, "complete_steps", lambda folder: {2: None, 4: None})
    with pytest.raises(ValueError, match="no validated step"):
        publish.main([str(run), "tiny", f"--output={tmp_path}"])


@pytest.mark.parametrize("name", ["Tiny", "a b", "-tiny", "tiny-", "../tiny", "", "a--b", "tïny"])
def test_a_name_is_plain(tiny_run, tmp_path, name):
    with pytest.raises(ValueError, match="accepted: small letters, digits and single hyphens"):
        publish.publish(publish.Options(str(tiny_run), name, output=str(tmp_path)))


def test_a_name_is_taken_once(tiny_run, models, tmp_path):
    copy = shutil.copytree(models, tmp_path / "copy")
    before = (copy / "tiny.json").read_bytes()
    arguments = [str(tiny_run), "tiny", f"--output={copy}"]
    with pytest.raises(ValueError, match="accepted: another name, or --overwrite"):
        publish.main(arguments)
    (copy / "tiny.safetensors").write_bytes(b"damaged")
    publish.main([*arguments, "--overwrite"])
    assert (copy / "tiny.json").read_bytes() == before
    pretrained.load("tiny", copy)


@pytest.mark.parametrize("name", ["tiny.json", "tiny.safetensors"])
def test_foreign_files_are_left_alone(tiny_run, tmp_path, name):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="was not published, and is not replaced"):
        publish.main([str(tiny_run), "tiny", f"--output={tmp_path}", "--overwrite"])
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_weights_past_half_precision_are_stored_whole(tmp_path, monkeypatch, tiny_run):
    """Where rounding moves the score too far, they stay as they are."""
    monkeypatch.setattr(publish, "TOLERANCE", 0.0)
    publish.main([str(tiny_run), "whole", f"--output={tmp_path}"])
    card = pretrained.card("whole", tmp_path)
    assert (card.weights.dtype, card.weights.moved_nats) == ("float32", 0.0)
    for leaf, same in zip(
        jax.tree.leaves(gen_jax.load(tiny_run)[1]),
        jax.tree.leaves(pretrained.load("whole", tmp_path)[1]),
        strict=True,
    ):
        np.testing.assert_array_equal(leaf, same)


def test_a_mistake_on_the_command_line_is_status_2(tmp_path):
    for arguments, said in (
        ((tmp_path / "nowhere", "name", f"--output={tmp_path}"), "nowhere is not a folder"),
        ((tmp_path,), "NAME"),
    ):
        result = command("publish", *arguments)
        assert result.returncode == 2
        assert said in result.stderr
        assert len(result.stderr.splitlines()) == 1
