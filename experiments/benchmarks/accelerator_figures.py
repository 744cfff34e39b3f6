"""The figures of `experiments.benchmarks.accelerator`, in order of importance."""

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from experiments.benchmarks import timing
from experiments.benchmarks.accelerator_figure import Call, Figure, Setting, about
from experiments.benchmarks.accelerator_training import training_step
from gen_jax import likelihoods, models, pretrained, sampling
from gen_jax.models.shared.protocol import has_block_view
from gen_jax.scripts.presets import find
from gen_jax.xla import compiler_options

SamplingMethod: TypeAlias = Literal["scan", "block_fixed_point"]
PASS = "one pass"


def figures(setting: Setting) -> list[Figure]:
    """All of them, the most important first."""
    foremost, *others = networks(setting)
    few, many = setting.batches[:2], setting.batches[2:]
    steps = _steps(setting)
    return [
        *_of(setting, [foremost], setting.batches, "scan"),
        *_of(setting, [foremost], setting.batches, "block_fixed_point"),
        *_of(setting, [foremost], setting.batches, PASS),
        *steps[:3],
        *_pytorch(setting, foremost),
        *_of(setting, others, few, "scan", "block_fixed_point", PASS),
        *_imagegpt(setting),
        *steps[3:],
        *_of(setting, others, many, "scan", PASS, "block_fixed_point"),
    ]


class Network(NamedTuple):
    """A model to draw from."""

    name: str
    model: Any
    trained: bool = False
    """Whether with the shipped parameters; else with random ones."""


def networks(setting: Setting) -> list[Network]:
    """PyTorch is compared with the first, ImageGPT with the last; between, one of each family."""
    binary, side = likelihoods.Bernoulli(), 6 if setting.small else 28
    shape = (side, side, 1)
    layers, features = (1, 4) if setting.small else (8, 64)
    transformer = models.ImageTransformer(
        shape,
        likelihoods.Categorical(3),
        attention="full",
        num_layers=layers,
        features=features,
        num_heads=2,
    )
    full = f"Image Transformer, full, {layers} x {features}"
    if setting.small:
        small = models.GatedPixelCNN(shape, binary, features=4, num_layers=1)
        return [Network("Gated PixelCNN, 1 x 4", small), Network(full, transformer)]
    rgb = functools.partial(models.GatedPixelCNN, (32, 32, 3))
    return [
        Network("Gated PixelCNN, 7 x 64", models.GatedPixelCNN(shape, binary)),
        Network("gated-pixelcnn-mnist, trained", find("gated-pixelcnn-mnist").model, trained=True),
        Network(
            "Gated PixelCNN, 5 x 60, 256 levels",
            rgb(likelihoods.Categorical(256), num_layers=5, features=60),
        ),
        Network(
            "Gated PixelCNN, 7 x 64, logistic mixture",
            rgb(likelihoods.DiscretizedLogisticMixture(256)),
        ),
        # Of as many layers as when it was measured first.
        Network(
            "PixelCNN, 7 x 32", find("pixelcnn-mnist").model.clone(num_layers=7, kernel_size=3)
        ),
        Network("row-lstm-mnist", find("row-lstm-mnist").model),
        Network("diagonal-bilstm-mnist", find("diagonal-bilstm-mnist").model),
        Network("PixelCNN++, 2 x 64", find("pixelcnn-pp-cifar10-small").model),
        Network("image-transformer-mnist", find("image-transformer-mnist").model),
        Network(full, transformer),
    ]


def _steps(setting: Setting) -> list[Figure]:
    """Of presets at their own batch size, and of MNIST's, which is small, at a large one too."""
    if setting.small:
        return [training_step(setting, "pixelcnn-digits", 4)]
    families = ("gated-pixelcnn", "pixelcnn", "row-lstm", "diagonal-bilstm", "image-transformer")
    figures = []
    for family in families:
        transformer = family == "image-transformer"
        figures += [
            training_step(setting, f"{family}-mnist", 1024),
            training_step(setting, f"{family}-cifar10-2d" if transformer else f"{family}-cifar10"),
            training_step(setting, f"{family}-mnist"),
        ]
    return [*figures, training_step(setting, "pixelcnn-pp-cifar10")]


# Sampling.


def _of(
    setting: Setting, some: Iterable[Network], batches: Iterable[int], *methods: str
) -> Iterable[Figure]:
    for batch, network, method in itertools.product(batches, some, methods):
        if method == PASS:
            yield one_pass(setting, network, batch)
        elif method == "scan" or has_block_view(network.model):
            yield sampler(setting, network, batch, method)  # pyright: ignore[reportArgumentType]


def _variables(network: Network) -> Any:
    if network.trained:
        return pretrained.load("gated-pixelcnn-mnist")[1]
    images = np.zeros((1, *network.model.image_shape), np.uint8)
    return jax.jit(network.model.init)(jax.random.key(0), images)


def sampler(setting: Setting, network: Network, batch: int, method: SamplingMethod) -> Figure:
    """Drawing a batch, compiled as `sampling.run` compiles it."""

    def prepare() -> Call:
        draw = functools.partial(
            sampling.generate, network.model, method=method, precision=setting.precision
        )
        request = sampling.to_sample(
            network.model, _variables(network), jax.random.key(1), batch
        )._replace(temperature=np.float32(1))
        options = compiler_options("sampling", jax.default_backend())
        call, compiling = timing.compile_call(draw, request, options=options)

        def measure() -> dict[str, Any]:
            passes = int(call().passes)  # and a warm-up
            return {**_rate(call, setting, batch), "passes": passes, "compile_seconds": compiling}

        return measure

    return Figure(about("sampling", network.name, network.model, batch, method), prepare)


def one_pass(setting: Setting, network: Network, batch: int) -> Figure:
    """The whole-image view of a batch."""

    def prepare() -> Call:
        model = network.model
        shape = (batch, *model.image_shape)
        images = np.random.RandomState(0).randint(
            model.likelihood.levels, size=shape, dtype=np.int32
        )
        options = compiler_options("evaluation", jax.default_backend())
        with setting.in_precision():
            call, compiling = timing.compile_call(
                model.apply, _variables(network), images, options=options
            )
        return lambda: {**_rate(call, setting, batch), "compile_seconds": compiling}

    return Figure(about("sampling", network.name, network.model, batch, PASS), prepare)


def _rate(call: Callable[[], Any], setting: Setting, batch: int) -> dict[str, float]:
    seconds = timing.median_seconds(call, setting.repeats)
    return {"seconds": seconds, "images_per_second": batch / seconds}


# PyTorch, if it is installed.


def _pytorch(setting: Setting, network: Network) -> Iterable[Figure]:
    if importlib.util.find_spec("torch") is None:
        return
    from experiments.benchmarks import accelerator_pytorch as theirs

    for method, measure in (("PyTorch, cached", theirs.cached), ("PyTorch, naive", theirs.naive)):
        for batch in setting.batches[: 4 if measure is theirs.cached else 2]:
            what = about("sampling", network.name, network.model, batch, method)
            yield Figure(what, functools.partial(_theirs, measure, setting, network, batch))


def _imagegpt(setting: Setting) -> Iterable[Figure]:
    if None in map(importlib.util.find_spec, ("torch", "transformers")):
        return
    from experiments.benchmarks import accelerator_pytorch as theirs

    network = networks(setting)[-1]
    for batch in setting.batches[:2]:
        what = about("sampling", network.name, network.model, batch, "ImageGPT, KV cache")
        call = functools.partial(theirs.imagegpt, network.model, batch, setting.precision)
        yield Figure(what, lambda call=call: call)  # nothing to compile


def _theirs(measure: Any, setting: Setting, network: Network, batch: int) -> Call:
    """Nothing to compile: CUDA records a graph only where no other thread allocates memory."""
    variables = jax.device_get(_variables(network))
    return functools.partial(
        measure, network.model, variables, batch, setting.precision, setting.repeats
    )
