"""What PyTorch does on the same card, for `experiments.benchmarks.accelerator`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from experiments.benchmarks import imagegpt as image_gpt
from experiments.benchmarks import timing
from experiments.benchmarks.pytorch_pixel_cnn import (
    CachedSampler,
    GatedPixelCNN,
    draw_by_passes,
    load,
)
from gen_jax import models
from gen_jax.precision import Precision


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _ready(call: Callable[[], Any]) -> Callable[[], None]:
    """`call`, with its result ready."""

    def waited() -> None:
        call()
        if _device() == "cuda":
            torch.cuda.synchronize()

    return waited


def _set_precision(precision: Precision) -> None:
    """As JAX has it: TF32 by default, else float32."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "default"
    torch.backends.cudnn.allow_tf32 = precision == "default"


def _module(model: models.GatedPixelCNN, variables: Mapping[str, Any]) -> GatedPixelCNN:
    module = GatedPixelCNN(
        model.features, model.num_layers, model.kernel_size, model.first_kernel_size
    )
    return load(module, variables["params"]).eval().to(_device())


def _noise(model: models.GatedPixelCNN, batch: int) -> Any:
    noise = np.random.RandomState(0).random_sample((batch, *model.image_shape[:2]))
    return torch.from_numpy(noise.astype(np.float32)).to(_device())


def cached(
    model: models.GatedPixelCNN,
    variables: Mapping[str, Any],
    batch: int,
    precision: Precision,
    repeats: int,
) -> dict[str, Any]:
    """The cache written by hand, on CUDA a graph a row."""
    _set_precision(precision)
    height, width, _ = model.image_shape
    sampler = CachedSampler(_module(model, variables), batch, height, width, _device())
    call = _ready(functools.partial(sampler, _noise(model, batch)))
    return _rate(timing.median_seconds(call, repeats), batch)


def naive(
    model: models.GatedPixelCNN,
    variables: Mapping[str, Any],
    batch: int,
    precision: Precision,
    repeats: int,
) -> dict[str, Any]:
    """A pass a pixel: the first few, scaled by their share."""
    _set_precision(precision)
    sites = model.image_shape[0] * model.image_shape[1]
    timed = min(8, sites)
    call = _ready(
        functools.partial(
            draw_by_passes, _module(model, variables), _noise(model, batch), num_sites=timed
        )
    )
    seconds = timing.median_seconds(call, repeats) * sites / timed
    return {**_rate(seconds, batch), "timed_sites": timed}


def imagegpt(model: models.ImageTransformer, batch: int, precision: Precision) -> dict[str, Any]:
    """Hugging Face's ImageGPT of the same sizes with its own cache; once, after a few tokens."""
    _set_precision(precision)
    sample = image_gpt.sampler(
        image_gpt.Sizes(
            model.features,
            model.num_heads,
            model.num_layers,
            model.likelihood.levels,
            model.image_shape[0] * model.image_shape[1],
        ),
        _device(),
    )
    _ready(functools.partial(sample, batch, num_tokens=2))()
    return _rate(timing.seconds(_ready(functools.partial(sample, batch))), batch)


def _rate(seconds: float, batch: int) -> dict[str, Any]:
    device = torch.cuda.get_device_name() if _device() == "cuda" else "cpu"
    return {
        "seconds": seconds,
        "images_per_second": batch / seconds,
        "torch": torch.__version__,
        "torch_device": device,
    }
