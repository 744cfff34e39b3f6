"""A user's mistake gets one line that names it, exit status 2, and loses nothing."""

import json
import shutil

import numpy as np
import pytest

from experiments.benchmarks import (
    attention_picture,
    gradient_variance,
    imagegpt,
    memory,
    pixel_rnn,
    sampling,
    training,
)
from gen_jax.scripts import cli, complete, demo, evaluate, reconstruct, sample, train
from gen_jax.training.workdir import Workdir
from tests.scripts.conftest import TINY, new_process

SCRIPTS = {
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "complete": complete,
    "demo": demo,
    "reconstruct": reconstruct,
    "benchmark_sampling": sampling,
    "benchmark_training": training,
    "benchmark_pixel_rnn": pixel_rnn,
    "benchmark_memory": memory,
    "benchmark_imagegpt": imagegpt,
    "attention_picture": attention_picture,
    "gradient_variance": gradient_variance,
}
VAE = ("train", "vae-digits", "--workdir={tmp}/new")
DIGITS = ("train", "gated-pixelcnn-digits", "--workdir={tmp}/new")

# (command, what the line must say). {run} and {classes} are trained runs, {tmp} an empty folder.
MISTAKES = [
    (("train", "gated-pixelcn-digits"), "preset is 'gated-pixelcn-digits' (did you mean"),
    ((*DIGITS, "--model.foo=3"), "--model.foo"),
    ((*DIGITS, "--model.features=x"), "invalid literal for int"),
    ((*DIGITS, "--model.features=0"), "features is 0; accepted: whole numbers of at least 1"),
    ((*DIGITS, "--model.num-layers=0"), "num_layers is 0"),
    ((*DIGITS, "--model.dropout=1.5"), "dropout is 1.5"),
    ((*DIGITS, "--model.kernel-size=4"), "kernel_size is 4; accepted: odd"),
    ((*DIGITS, "--model.dtype=float16"), "float16"),
    ((*DIGITS, "--model.likelihood.levels=1"), "levels is 1"),
    ((*DIGITS, "--model.likelihood.levels=16"), "one of 17 levels"),
    ((*DIGITS, "--data.binarize=static"), "one of 2 levels"),
    ((*DIGITS, "--data.binarize=sometimes"), "sometimes"),
    ((*DIGITS, "--data.levels=300"), "300"),
    ((*DIGITS, "--data.name=no-such-set"), "no-such-set"),
    ((*DIGITS, "--data.name=mnist", "--data.data-dir={tmp}"), "gen_jax prepare mnist"),
    ((*DIGITS, "--data.name={tmp}/missing.npz"), "missing.npz"),
    ((*DIGITS, "--data.name={tmp}/truncated.npz"), "truncated.npz"),
    ((*DIGITS, "--data.name={tmp}/floats.npz"), "float64"),
    ((*DIGITS, "--data.name={tmp}/empty"), "no images"),
    ((*DIGITS, "--data.size", "0", "8"), "0"),
    ((*DIGITS, "--training.batch-size=0"), "batch_size"),
    ((*DIGITS, "--training.steps=0"), "steps"),
    ((*DIGITS, "--training.batch-size=10"), "multiples of 4"),
    ((*DIGITS, "--training.accumulate=3"), "multiples of 12"),
    ((*DIGITS, "--training.optimizer.learning-rate=-1"), "learning_rate is -1"),
    ((*DIGITS, "--training.optimizer.schedule=linear"), "linear"),
    ((*DIGITS, "--resume", "--overwrite"), "resume and overwrite"),
    (("train", "gated-pixelcnn-digits", "--workdir={tmp}/file"), "is a file"),
    (
        (
            "train",
            "gated-pixelcnn-digits-classes",
            "--data.name={tmp}/unlabelled.npz",
            "--model.likelihood.levels=256",
        ),
        "which has no labels",
    ),
    (
        ("train", "gated-pixelcnn-digits-classes", "--model.num-classes=7"),
        "num_classes is 7; accepted, for digits: None, 10",
    ),
    (("train", "gated-pixelcnn-digits", *TINY, "--workdir={run}", "--model.features=8"), "another"),
    (("evaluate",), "WORKDIR Folder of a trained run"),
    (("evaluate", "{tmp}/nowhere"), "nowhere"),
    (("evaluate", "{tmp}/empty"), "no run.json"),
    (("evaluate", "{run}", "--split=dev"), "dev"),
    (("evaluate", "{run}", "--step=99"), "step is 99, of which"),
    (("evaluate", "{run}", "--step=first"), "best, last or a number"),
    (("evaluate", "{run}", "--batch-size=0"), "batch_size is 0"),
    (("evaluate", "{damaged}"), "damaged"),
    (("evaluate", "{nonsense}"), "run.json cannot be read"),
    (("sample", "{run}", "--num-images=0"), "num_images is 0"),
    (("sample", "{run}", "--chunk-size=-1"), "chunk_size is -1"),
    (("sample", "{run}", "--temperature=-1"), "temperature is -1"),
    (("sample", "{run}", "--method=magic"), "magic"),
    (("sample", "{run}", "--label=3"), "by a model without classes: None"),
    (("sample", "{classes}", "--label=10"), "0 … 9"),
    (("complete", "{run}", "--known=bottom"), "bottom"),
    (("complete", "{run}", "--mask={tmp}/missing.npy"), "missing.npy"),
    (("complete", "{run}", "--mask={tmp}/mask.npy"), "of shape (3, 3)"),
    (("complete", "{run}", "--mask={tmp}/text.npy"), "text.npy', which is no whole .npy; accepted"),
    (("complete", "{run}", "--mask={tmp}/whole.npz"), "holds several arrays"),
    (("complete", "{run}", "--mask={tmp}/cut.npz"), "cut.npz', which is no whole .npy; accepted"),
    (("complete", "{run}", "--mask={tmp}/fields.npy"), "accepted: bool, or 0 and 1, of shape"),
    (
        ("train", "gated-pixelcnn-digits", "--data.name={tmp}", "--workdir={tmp}/runs/new"),
        "inside the folder of images",
    ),
    (
        ("evaluate", "{run}", "--data.name={tmp}", "--output={tmp}/new"),
        "inside the folder of images",
    ),
    (("complete", "{run}", "--num-images=0"), "num_images is 0"),
    (("sample", "{run}", "--output="), "accepted: a path"),
    (("sample", "{run}", "--output={tmp}/file"), "nothing can be written in"),
    (("sample", "{run}", "--output=~nobody-here/x"), "~nobody-here"),
    (("sample", "{run}", "--output=gs://bucket/x"), "accepted: a local path"),
    (("sample", "{run}", f"--seed={2**64}"), "seed is 18446744073709551616"),
    (("demo", "--preset=nothing"), "preset is 'nothing'; accepted"),
    (("benchmark_sampling", "--batch-sizes", "0"), "batch_sizes"),
    (("benchmark_sampling", "--workdir={tmp}/nowhere"), "nowhere"),
    (("benchmark_sampling", "row-lstm-mnis"), "did you mean row-lstm-mnist"),
    (("benchmark_training", "row-lstm-mnis"), "did you mean row-lstm-mnist"),
    (("benchmark_training", "--batch-sizes", "0"), "batch_sizes"),
    (("benchmark_pixel_rnn", "gated-pixelcnn-mnist"), "accepted: those of RowLSTM and Diag"),
    (("benchmark_memory", "--image-sizes", "0"), "image_sizes is (0,)"),
    (("benchmark_memory", "--attentions", "global"), "global"),
    (("benchmark_imagegpt", "--repeats=0"), "repeats is 0"),
    (("attention_picture", "--site", "40", "2"), "site is (40, 2)"),
    (("train", "image-transformer-mnist", "--model.query-block=9"), "query_block is 9; accepted"),
    (("train", "image-transformer-mnist", "--model.num-heads=5"), "multiples of num_heads, 5"),
    (("benchmark_training", "--batch-sizes"), "batch_sizes is ()"),
    (("benchmark_sampling", "--batch-sizes"), "batch_sizes is ()"),
    (("benchmark_pixel_rnn", "--batch-size=0"), "batch_size is 0"),
    ((*VAE, "--model.num-latents=0"), "num_latents is 0"),
    ((*VAE, "--model.hidden", "0", "3"), "hidden is (0, 3)"),
    ((*VAE, "--model.network=recurrent"), "recurrent"),
    ((*VAE, "--objective.beta=-1"), "beta is -1.0"),
    ((*VAE, "--objective.num-samples=0"), "num_samples is 0"),
    ((*VAE, "--objective.estimator=straight_through"), "for real latents: reparametrized"),
    ((*VAE, "--objective.baseline=constant"), "by the estimator reparametrized: none"),
    ((*VAE, "--model.latents=bernoulli"), "for discrete latents: score_function"),
    (("train", "vae-frey", "--workdir={tmp}/new"), "frey_faces.npz"),
    (("evaluate", "{run}", "--num-samples=5"), "num_samples is 5, for GatedPixelCNN"),
    (("evaluate", "{vae}", "--num-samples=-5"), "num_samples is -5"),
    (("evaluate", "{vae}", "--chunk-size=0"), "chunk_size is 0"),
    (("sample", "{vae}", "--method=naive"), "which draws all sites at once: 'scan'"),
    (("complete", "{vae}"), "model is VAE; accepted: an autoregressive model"),
    (("benchmark_sampling", "vae-mnist"), "model is VAE; accepted: an autoregressive model"),
    (("benchmark_sampling", "--workdir={vae}"), "model is VAE; accepted: an autoregressive model"),
    (("benchmark_pixel_rnn", "vae-mnist"), "accepted: those of RowLSTM and Diag"),
    (("reconstruct", "{run}"), "model is GatedPixelCNN; accepted: an auto-encoder"),
    (("reconstruct", "{vae}", "--num-images=0"), "num_images is 0"),
    (("reconstruct", "{vae}", "--num-steps=0"), "num_steps is 0"),
    (("reconstruct", "{tmp}/nowhere"), "nowhere"),
    (("gradient_variance", "{run}"), "model is GatedPixelCNN; accepted: a VAE"),
    (("gradient_variance", "{vae}", "--repeats=1"), "repeats is 1"),
    (("gradient_variance", "{vae}", "--num-samples", "0"), "num_samples is (0,)"),
    (("train", "gated-pixelcnn-digits", "--workdir="), "the folder of a run is ''"),
    (("train", "gated-pixelcnn-digits", "--workdir=gs://bucket/run"), "accepted: a local path"),
    (("train", "gated-pixelcnn-digits", "--workdir={foreign}", "--overwrite"), "has no model"),
    (("train", "gated-pixelcnn-digits", "--workdir={locked}"), "is in use by process"),
    ((*DIGITS, "--training.optimizer.eps=inf"), "eps is inf; accepted: numbers in (0, inf)"),
    ((*DIGITS, "--training.optimizer.learning-rate=inf"), "learning_rate is inf"),
    ((*VAE, "--model.hidden", "100000000", "3"), "parameters, which with EMA, optimiser"),
    ((*DIGITS, "--model.features=100000000"), "accepted: up to 2^20 features, and 2^31 entries"),
    ((*DIGITS, "--init-from={tmp}/nowhere"), "nowhere is not a folder"),
    ((*DIGITS, "--init-from={run}"), "its parameter head/convs_0/bias is float32[4]"),
    # What would be ignored.
    (
        ("train", "autoencoder-digits", "--workdir={tmp}/new", "--training.sample-every=100"),
        "sample_every is 100; accepted, by AutoEncoder, from which nothing is drawn: 0",
    ),
    (
        (*DIGITS, "--training.optimizer.decay-rate=0.9"),
        "by the schedule cosine, which does not read it: 0.999995",
    ),
    (("complete", "{run}", "--known=left", "--mask={tmp}/mask.npy"), "known is 'left' and mask is"),
    (("evaluate", "{vae}", "--chunk-size=9"), "chunk_size is 9; accepted, where num_samples is 0"),
    (("evaluate", "{run}", "--classify"), "--classify"),
    (("sample", "{vae}", "--animate"), "--animate"),
    (("evaluate", "{run}", "--data-dir={tmp}"), "--data-dir"),
    (
        ("reconstruct", "vae-digits", "--plane=3"),
        "plane is 3; accepted, by this VAE, whose codes are 16 real numbers with a prior: None",
    ),
    # What a command cannot be given.
    (("sample", "{other}"), "has the model mine.Left; accepted by a command: one of gen_jax; from"),
    (("evaluate", "{other}"), "from Python: gen_jax.load("),
    (("complete", "{other_likelihood}"), "has the likelihood mine.Poisson"),
    ((*DIGITS, "--init-from={other}"), "has the model mine.Left; accepted: a run of a model of"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory, tiny_run, tiny_class_run, tiny_vae_run):
    tmp = tmp_path_factory.mktemp("mistakes")
    np.savez(tmp / "whole.npz", images=np.zeros((9, 4, 4), np.uint8))
    (tmp / "truncated.npz").write_bytes((tmp / "whole.npz").read_bytes()[:200])
    np.savez(tmp / "floats.npz", images=np.zeros((9, 4, 4)))
    levels = np.arange(1600, dtype=np.int64).reshape(100, 4, 4) % 17
    np.savez(tmp / "unlabelled.npz", images=levels.astype(np.uint8))
    np.save(tmp / "mask.npy", np.ones((3, 3), bool))
    np.save(tmp / "fields.npy", np.zeros((4, 4), [("a", "i4")]))
    (tmp / "cut.npz").write_bytes((tmp / "whole.npz").read_bytes()[:-30])
    (tmp / "text.npy").write_text("a picture of what is known")
    (tmp / "file").write_text("not a folder")
    (tmp / "empty").mkdir()
    damaged, nonsense = tmp / "damaged", tmp / "nonsense"
    other, other_likelihood = tmp / "other", tmp / "other_likelihood"
    for copy in (damaged, nonsense, other, other_likelihood):
        shutil.copytree(tiny_run, copy)
    record = json.loads((tiny_run / "run.json").read_text())
    record["model"]["likelihood"]["name"] = "mine.Poisson"
    (other_likelihood / "run.json").write_text(json.dumps(record))
    record["model"]["model"] = "mine.Left"
    (other / "run.json").write_text(json.dumps(record))
    for file in (damaged / "checkpoints").rglob("*"):
        if file.is_file() and file.stat().st_size > 64 and "ema" in file.parts:
            file.write_bytes(file.read_bytes()[:20])
    (nonsense / "run.json").write_text("{")
    foreign, locked = tmp / "foreign", tmp / "locked"
    foreign.mkdir()
    (foreign / "run.json").write_text('{"run": 12}')
    with Workdir(locked).lock():
        yield {
            "tmp": tmp,
            "run": tiny_run,
            "classes": tiny_class_run,
            "vae": tiny_vae_run,
            "damaged": damaged,
            "nonsense": nonsense,
            "other": other,
            "other_likelihood": other_likelihood,
            "foreign": foreign,
            "locked": locked,
        }


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda value: str(value)[:60])
def test_mistake_is_one_line_and_status_2(arguments, message, places, capsys, monkeypatch):
    script, *rest = (argument.format(**places) for argument in arguments)
    before = contents(places["run"])
    with pytest.raises(SystemExit) as stop:
        cli.run(SCRIPTS[script].main, rest)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert contents(places["run"]) == before


def test_a_mistake_has_no_traceback_in_a_new_process(tmp_path):
    result = new_process("sample", tmp_path / "nowhere")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_other_data_than_trained_on_is_refused(tiny_run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy)
    record = json.loads((copy / "run.json").read_text())
    record["data"]["fingerprint"] = "0" * 16
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit) as stop:
        cli.run(evaluate.main, [str(copy)])
    assert stop.value.code == 2
    assert "is not the data of this run" in capsys.readouterr().err
