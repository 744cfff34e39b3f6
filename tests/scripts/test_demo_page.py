"""experiments.demo_page: what it writes, and that its JavaScript draws what the library draws."""

import base64
import json
import shutil
import subprocess

import jax
import numpy as np
import pytest

import gen_jax
from experiments import demo_page
from gen_jax import likelihoods, models
from gen_jax.pretrained import weights
from tests.cases import perturbed
from tests.scripts.conftest import command
from tests.scripts.demo_page import IMAGES, SIDE, differing, expected, names

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node is found")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    demo_page.main(["--no-open", f"--output={folder}"])
    return folder


def in_node(folder, code, request=None):
    """What JavaScript returns, with the page's sampler, its MODELS, and a request."""
    program = f"""
        const fs = require("fs");
        const sampler = require({json.dumps(str(folder / "sampler.js"))});
        const text = fs.readFileSync({json.dumps(str(folder / "models.js"))}, "utf8");
        const MODELS = new Function(text + "return MODELS;")();
        const request = JSON.parse(fs.readFileSync(0, "utf8"));
        console.log(JSON.stringify((() => {{ {code} }})()));
    """
    result = subprocess.run(
        [NODE, "-e", program],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


DRAW = """
    const { name, weights, model } = MODELS.find(({ name }) => name === request.name);
    const tensors = sampler.readTensors(Buffer.from(weights, "base64"));
    const images = [], probabilities = [];
    for (let i = 0; i < request.images; i++) images.push([]), probabilities.push([]);
    const bytes = ["given", "known"].map((key) => [key, Uint8Array.from(request[key])]);
    const asked = { ...request, ...Object.fromEntries(bytes), model, tensors };
    for (const row of sampler.complete(asked)) {
        for (let i = 0; i < request.images; i++) {
            const [from, to] = [i * 28, (i + 1) * 28];
            images[i].push(Array.from(row.levels.subarray(from, to)));
            probabilities[i].push(Array.from(row.probabilities.subarray(from, to)));
        }
    }
    return { images, probabilities };
"""


def draw(folder, name, images=IMAGES, **changes):
    wanted = expected(name)
    request = {
        "name": name,
        "given": wanted.given.ravel().tolist(),
        "known": wanted.known.ravel().astype(int).tolist(),
        "noise": wanted.noise[:images].ravel().tolist(),
        "temperature": wanted.temperature,
        "images": images,
        **changes,
    }
    result = in_node(folder, DRAW, request)
    probabilities = np.array(result["probabilities"], float)  # null, of what is not computed: NaN
    return np.array(result["images"]), probabilities


@needs_node
@pytest.mark.parametrize("name", names())
def test_for_the_same_noise_it_draws_what_the_library_draws(built, name):
    images, probabilities = draw(built, name)
    assert differing(images, name) <= 1e-3
    # Its probabilities are those of the whole-image view.
    model, variables = gen_jax.load(name)
    logits = np.asarray(jax.jit(model.apply)(variables, images[..., None]))[..., 0, 0]
    wanted = 1 / (1 + np.exp(-logits / expected(name).temperature))
    known_rows = expected(name).known.all(axis=1)
    np.testing.assert_allclose(
        probabilities[:, ~known_rows], wanted[:, ~known_rows], rtol=0, atol=2e-4
    )
    # An image's noise is its own: fewer images, and an odd number, are the first of these.
    fewer, _ = draw(built, name, images=3)
    np.testing.assert_array_equal(fewer, images[:3])
    # And at temperature 0 noise is nothing.
    cold, _ = draw(built, name, temperature=0)
    assert (cold == cold[:1]).all()
    assert (cold != images).any()


@needs_node
@pytest.mark.parametrize(
    "model",
    [
        models.GatedPixelCNN(
            (SIDE, SIDE, 1),
            likelihoods.Bernoulli(),
            features=16,
            num_layers=3,
            first_kernel_size=5,
            head_features=48,
        ),
        models.RowLSTM(
            (SIDE, SIDE, 1),
            likelihoods.Bernoulli(),
            features=16,
            num_layers=2,
            kernel_size=5,
            first_kernel_size=3,
        ),
    ],
    ids=lambda model: type(model).__name__,
)
def test_other_sizes_have_the_parameters_of_the_whole_image_view(tmp_path, model):
    """In float32, and every bias away from zero."""
    variables, rng = perturbed(model), np.random.default_rng(0)
    content = weights.to_bytes(variables["params"], "float32")
    entry = {
        "name": "tiny",
        "model": models.to_dict(model),
        "weights": base64.b64encode(content).decode(),
    }
    (tmp_path / "models.js").write_text(f"const MODELS = {json.dumps([entry])};")
    shutil.copy(demo_page.SOURCES / "sampler.js", tmp_path)
    request = {
        "name": "tiny",
        "given": [0] * SIDE**2,
        "known": [0] * SIDE**2,
        "noise": rng.uniform(size=4 * SIDE**2).tolist(),
        "temperature": 1,
        "images": 4,
    }
    result = in_node(tmp_path, DRAW, request)
    images = np.array(result["images"])
    logits = np.asarray(jax.jit(model.apply)(variables, images[..., None]))[..., 0, 0]
    wanted = 1 / (1 + np.exp(-logits))
    assert 0.1 < images.mean() < 0.9
    np.testing.assert_allclose(result["probabilities"], wanted, rtol=0, atol=1e-5)
    drawn = np.reshape(request["noise"], wanted.shape) < wanted
    assert (drawn != images).mean() <= 1e-3


@needs_node
def test_memory_grows_with_the_model(built):
    """Few images, many, for which 32 MiB are too little, and few again: the first rows of each."""
    code = """
        const { weights, model } = MODELS.find(({ name }) => name === "gated-pixelcnn-mnist");
        const tensors = sampler.readTensors(Buffer.from(weights, "base64"));
        const [given, known] = [new Uint8Array(784), new Uint8Array(784)];
        return [2, 200, 2].map((images) => {
            const noise = sampler.uniforms(0, images, 784);
            const asked = { model, tensors, given, known, noise, temperature: 1, images };
            const rows = sampler.complete(asked);
            return [rows.next(), rows.next()].map(({ value }) =>
                Array.from(value.probabilities.subarray(0, 2 * 28)));
        });
    """
    few, many, again = np.array(in_node(built, code))
    assert ((few > 0) & (few < 1)).all()
    np.testing.assert_array_equal(many, few)
    np.testing.assert_array_equal(again, few)


@needs_node
def test_noise_is_uniform_and_belongs_to_an_image_and_a_site(built):
    code = "return [[7, 6], [7, 2], [8, 6], [7 + 2 ** 32, 1]].map(([seed, images]) => "
    code += "Array.from(sampler.uniforms(seed, images, 784)));"
    six, two, other, high = (np.array(x).reshape(-1, SIDE * SIDE) for x in in_node(built, code))
    np.testing.assert_array_equal(six[:2], two)
    assert ((six > 0) & (six < 1)).all()
    counts, _ = np.histogram(six, bins=20, range=(0, 1))
    chi_square = ((counts - six.size / 20) ** 2 / (six.size / 20)).sum()
    assert chi_square < 43.8  # the 0.999 quantile, of 19 degrees of freedom
    streams = np.concatenate([six, other, high])
    correlations = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlations).max() < 5 / SIDE  # 5 standard deviations


@pytest.mark.quick
def test_the_page_is_small_and_asks_nothing_of_anybody(built):
    files = list(built.iterdir())
    assert {file.name for file in files} == {*demo_page.FILES, "models.js"}
    assert sum(file.stat().st_size for file in files) <= 4e6
    assert "connect-src 'none'" in (built / "index.html").read_text()
    for name in demo_page.FILES:
        text = (built / name).read_text()
        assert text == (demo_page.SOURCES / name).read_text()
        assert "://" not in text
    assert len(names()) >= 2


@pytest.mark.quick
def test_opens_what_it_has_written(tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(demo_page.webbrowser, "open", opened.append)
    demo_page.main(["row-lstm-mnist", f"--output={tmp_path}"])
    assert opened == [(tmp_path / "index.html").as_uri()]
    text = (tmp_path / "models.js").read_text()
    (entry,) = json.loads(text.removeprefix("const MODELS = ").removesuffix(";\n"))
    assert (entry["name"], entry["model"]["model"]) == ("row-lstm-mnist", "RowLSTM")
    assert entry["about"] == "81.61 ± 0.20 nats on the test split."
    assert "index.html: 0.2" in capsys.readouterr().out


@pytest.mark.quick
@pytest.mark.parametrize("name", ["index.html", "page.css"])
def test_files_of_another_page_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    arguments = ("row-lstm-mnist", f"--output={tmp_path}", "--no-open")
    result = command("demo_page", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: {tmp_path / name} is there; accepted: another --output, or --overwrite\n"
    )
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "mine")]
    assert command("demo_page", *arguments, "--overwrite").returncode == 0
    assert (tmp_path / name).read_text() == (demo_page.SOURCES / name).read_text()
    assert command("demo_page", *arguments).returncode == 0  # its own page is


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("no-model", "name is 'no-model'; accepted: "),
        ("vae-digits", "vae-digits: model is VAE; accepted, by the page: GatedPixelCNN, RowLSTM"),
        ("gated-pixelcnn-digits", "image_shape is (8, 8, 1); accepted, by the page: (28, 28, 1)"),
    ],
)
def test_a_model_that_it_cannot_run_is_one_line(tmp_path, name, complaint):
    result = command("demo_page", name, f"--output={tmp_path}", "--no-open")
    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.quick
@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (
            models.RowLSTM((28, 28, 1), likelihoods.Categorical(4), features=16),
            "likelihood is Categorical; accepted, by the page: Bernoulli",
        ),
        (
            models.RowLSTM((28, 28, 1), likelihoods.Bernoulli(), 10, features=16),
            "num_classes is 10; accepted, by the page: None",
        ),
        (
            models.GatedPixelCNN((28, 28, 1), likelihoods.Bernoulli(), features=24),
            "features is 24; accepted, by the page: multiples of 16",
        ),
        (
            models.RowLSTM((28, 28, 1), likelihoods.Bernoulli(), features=16, head_features=40),
            "head_features is 40; accepted, by the page: multiples of 16",
        ),
    ],
)
def test_why_it_cannot_run_a_model(model, complaint):
    assert demo_page._hindrance(model) == complaint
