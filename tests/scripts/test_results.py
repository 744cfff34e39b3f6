"""Where results go, what stands beside them, and what a failing picture costs: nothing."""

import csv
import json

import numpy as np
import pytest

import gen_jax
from gen_jax import data, figures, objectives
from gen_jax.scripts import cli, complete, evaluate, reconstruct, results, sample


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_output_is_a_folder_of_its_own(tiny_run, tmp_path):
    """Made if need be; the run's folder stays as it was; and what made the images is with them."""
    before, target = names(tiny_run), tmp_path / "a" / "b"
    options = {"seed": 5, "temperature": 0.5, "output": str(target)}
    sample.sample(sample.Options(str(tiny_run), num_images=3, animate=False, **options))
    complete.complete(
        complete.Options(str(tiny_run), num_images=2, num_completions=1, chunk_size=1, **options)
    )
    evaluate.evaluate(evaluate.Options(str(tiny_run), output=str(target)))
    assert names(tiny_run) == before
    assert names(target) == {
        *("samples.npz", "samples.png", "completions.npz", "completions.png"),
        *("evaluation-test.json", "evaluation-test.npz", "surprise-test.png"),
    }
    for name in ("samples.npz", "completions.npz"):
        written = np.load(target / name)
        assert (written["seed"], written["temperature"], written["step"]) == (5, 0.5, 4)
        assert written["method"] == "scan"


def test_one_value_an_image(tiny_run, tmp_path):
    """In the order of the split; its mean is the result."""
    options = evaluate.Options(str(tiny_run), output=str(tmp_path), batch_size=64)
    result = evaluate.evaluate(options)
    split = data.load(data.DataConfig("digits", size=(4, 4))).test
    model, variables = gen_jax.load(tiny_run)
    nats = np.asarray(objectives.log_likelihood(model, variables, split.images))
    written = np.load(tmp_path / "evaluation-test.npz")
    np.testing.assert_allclose(written["nats"], nats, rtol=1e-5)
    assert written["bits_per_dim"].mean() == pytest.approx(result["bits_per_dim"], rel=1e-12)


@pytest.fixture
def own_images(tiny_run, tmp_path):
    """Seven images of the run's kind, in a file of their own."""
    del tiny_run
    images = data.load(data.DataConfig("digits", size=(4, 4))).train.images[:7]
    np.savez(tmp_path / "mine.npz", images=images)
    return images, str(tmp_path / "mine.npz")


@pytest.mark.parametrize("count", [7, 1])
def test_ones_own_images_are_scored_in_their_order(tiny_run, own_images, tmp_path, count):
    """All of them, none held out, to a file with their name; the run's own result stays."""
    images, path = own_images
    np.savez(path, images=images[:count])
    arguments = [str(tiny_run), f"--data.name={path}", "--data.values=levels"]
    arguments += ["--data.levels=17", "--scores=csv", f"--output={tmp_path}"]
    evaluate.main(arguments)
    result = json.loads((tmp_path / "evaluation-mine-all.json").read_text())
    assert (result["images"], result["split"], result["data"]) == (count, "mine-all", path)
    assert (result["nats_standard_error"] is None) == (count == 1)
    model, variables = gen_jax.load(tiny_run)
    nats = np.asarray(objectives.log_likelihood(model, variables, images[:count]))
    with (tmp_path / "evaluation-mine-all.csv").open() as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["nats"]) for row in rows], nats, rtol=1e-5)


def test_own_sets_of_one_file_name_have_results_of_their_own(tiny_run, own_images, tmp_path):
    """The first keeps the plain name, also when it is scored again or has changed."""
    images, _ = own_images
    names = []
    for folder, shown in (("a", images), ("b", images[::-1]), ("a", images), ("a", images[:5])):
        (tmp_path / folder).mkdir(exist_ok=True)
        np.savez(tmp_path / folder / "mine.npz", images=shown)
        where = data.DataConfig(str(tmp_path / folder / "mine.npz"), values="levels", levels=17)
        output = tmp_path / "results"
        before = {path: path.read_bytes() for path in output.glob("*.json")}
        result = evaluate.evaluate(evaluate.Options(str(tiny_run), data=where, output=str(output)))
        written = {path for path in output.glob("*.json") if path.read_bytes() != before.get(path)}
        names.append({path.stem for path in written})
        assert result["split"] == "mine-all"
    assert names[0] == names[3] == {"evaluation-mine-all"}
    assert names[2] == set()  # the same again
    (second,) = names[1]
    assert second.startswith("evaluation-mine-all-")


def test_a_set_that_the_model_cannot_take_is_refused(tiny_run, own_images, tmp_path, capsys):
    _, path = own_images
    cases = {
        (f"--data.name={path}",): "have 256 levels",
        ("--data.size", "5", "5"): r"[B, 4, 4, 1]",
    }
    for arguments, message in cases.items():
        with pytest.raises(SystemExit) as stop:
            cli.run(evaluate.main, [str(tiny_run), *arguments, f"--output={tmp_path / 'new'}"])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_a_picture_that_fails_ends_nothing(tiny_run, tmp_path, monkeypatch, capsys):
    """The result is on the disk before, and one line says what is missing."""

    def fail(*arguments, **options):
        raise OSError("no font")

    monkeypatch.setattr(figures, "save_grid", fail)
    path = sample.sample(
        sample.Options(str(tiny_run), num_images=2, animate=False, output=str(tmp_path))
    )
    assert np.load(path)["images"].shape == (2, 4, 4, 1)
    assert capsys.readouterr().err == "warning: a picture is missing: no font\n"


def test_a_result_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = results.save_arrays(tmp_path / "a.npz", x=np.arange(3), nothing=None)
    assert np.load(path).files == ["x"]

    def full(file, **arrays):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        results.save_arrays(path, x=np.arange(9))
    assert np.load(path)["x"].size == 3
    assert names(tmp_path) == {"a.npz"}


@pytest.mark.parametrize("output", ["", "file", "file/below"])
def test_where_nothing_can_be_written_nothing_is_computed(tiny_vae_run, tmp_path, output):
    (tmp_path / "file").touch()
    target = str(tmp_path / output) if output else output
    options = reconstruct.Options(str(tiny_vae_run), output=target)
    with pytest.raises(ValueError, match=r"accepted: a path|nothing can be written in"):
        reconstruct.reconstruct(options)
