"""Full attention against a public KV cache: `python -m experiments.benchmarks.imagegpt`.

Hugging Face's ImageGPT in PyTorch, with its own cache, draws images of 784 tokens of 3 values, and
so does an Image Transformer of the same sizes (8 layers, full attention); random parameters, on the
CPU. Both run in this process, in turn; compilation is timed apart. Pin a core with `taskset -c 0`.
Needs `pip install torch transformers`.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import timing
from gen_jax import likelihoods, models, sampling
from gen_jax.scripts import cli
from gen_jax.xla import compiler_options

_LEVELS, _LAYERS, _SIDE = 3, 8, 28


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    features: int = 64
    """Width of both."""
    num_heads: int = 2
    """Heads of both."""
    batch_sizes: tuple[int, ...] = (1, 64)
    """Images drawn at once."""
    repeats: int = 3
    """Timed runs of each; medians are reported. PyTorch takes minutes at a batch of 64."""


def main(arguments: Sequence[str]) -> None:
    """Parses, measures, prints a table."""
    options = cli.parse(Options, "python -m experiments.benchmarks.imagegpt", arguments)
    cli.check_counts(batch_sizes=options.batch_sizes, repeats=options.repeats)
    model = models.ImageTransformer(
        (_SIDE, _SIDE, 1),
        likelihoods.Categorical(_LEVELS),
        attention="full",
        features=options.features,
        num_heads=options.num_heads,
        num_layers=_LAYERS,
    )
    sizes = Sizes(options.features, options.num_heads, _LAYERS, _LEVELS, _SIDE**2)
    theirs = sampler(sizes)
    _one_thread()
    variables = model.init(jax.random.key(0), np.zeros((1, *model.image_shape), np.int32))
    table = Table(title=f"{options.features} features, {options.num_heads} heads")
    for column in ("batch", "ImageGPT, s", "gen_jax, s", "ratio", "compile, s"):
        table.add_column(column, justify="right")
    for batch in cli.track(options.batch_sizes, len(options.batch_sizes), "measuring"):

        def draw(variables: Any, key: Any, batch: int = batch) -> Any:
            return sampling.sample(model, variables, key, batch)

        xla_options = compiler_options("sampling", jax.default_backend())
        ours, compile_seconds = timing.compile_call(
            draw, variables, jax.random.key(1), options=xla_options
        )
        timing.seconds(ours)
        times = timing.in_turn(functools.partial(theirs, batch), ours, repeats=options.repeats)
        table.add_row(
            str(batch),
            f"{np.median(times[:, 0]):.2f}",
            f"{np.median(times[:, 1]):.3f}",
            f"{np.median(times[:, 0] / times[:, 1]):.1f}",
            f"{compile_seconds:.1f}",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _one_thread() -> None:
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)


class Sizes(NamedTuple):
    """Of an ImageGPT."""

    features: int
    num_heads: int
    num_layers: int
    levels: int
    num_tokens: int


def sampler(sizes: Sizes, device: str = "cpu") -> Callable[..., Any]:
    """A sampler by ImageGPT, `sample(batch, num_tokens=all)`, random parameters.

    ValueError if PyTorch or Transformers are not installed.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"PyTorch and Transformers are not both installed: {error}; accepted: after "
            "pip install torch transformers"
        ) from error
    config = transformers.ImageGPTConfig(
        vocab_size=sizes.levels + 1,  # and the token that an image starts with
        n_positions=sizes.num_tokens,
        n_embd=sizes.features,
        n_layer=sizes.num_layers,
        n_head=sizes.num_heads,
    )
    model = transformers.ImageGPTForCausalImageModeling(config).eval().to(device)

    def sample(batch: int, num_tokens: int = sizes.num_tokens) -> Any:
        drawn, cache = [torch.full((batch, 1), sizes.levels, device=device)], None
        with torch.inference_mode():
            for _ in range(num_tokens):
                output = model(input_ids=drawn[-1], past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                probabilities = torch.softmax(output.logits[:, -1], dim=-1)
                drawn.append(torch.multinomial(probabilities, 1))
        return torch.cat(drawn[1:], dim=1)

    return sample


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
