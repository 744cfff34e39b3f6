"""Compress images losslessly by a trained run: `gen_jax compress WORKDIR IMAGES -o FILE`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from gen_jax import checks, codec, data, figures, training
from gen_jax.data.datasets import AS_PUBLISHED, AS_STORED
from gen_jax.files import replacing
from gen_jax.models.shared.protocol import traits
from gen_jax.scripts import cli, formats, results, runs


@dataclasses.dataclass(frozen=True)
class Options(runs.ImageOptions):
    """Which images, of what the run was trained on by default, and where the file goes."""

    images: cli.Images = None
    """A .npz, a folder of pictures, or a data set; by default what the run was trained on."""
    output: cli.OutputFile = None
    """File to write; the chart goes beside it, as .png."""
    limit: int | None = None
    """How many images at most, from the first of the split on."""
    batch_size: int = 256
    """Images coded at once: the fewer, the less memory; decoding takes as much."""
    compare: bool = True
    """Say what other formats make of the same images, as a table and a chart."""
    overwrite: bool = False
    """Write over a file that is there."""
    seed: cli.Hidden = 0


def main(arguments: Sequence[str]) -> None:
    """Parses, compresses, and writes the file and a chart."""
    compress(runs.parse_on_images(Options, "gen_jax compress", arguments))


def compress(options: Options) -> Path:
    """The path of the file."""
    checks.whole("batch_size", options.batch_size, 1, codec.MAX_BATCH)
    if options.limit is not None:
        checks.whole("limit", options.limit, 1)
    path = results.new_file(options.output, options.overwrite)
    chart = path.with_name(path.name + ".png")
    if options.compare:
        results.new_file(str(chart), options.overwrite)
    run = runs.open_run(options.workdir, options.step)
    runs.autoregressive(run.model)
    if options.images is not None:
        config = dataclasses.replace(options.data or data.DataConfig(), name=options.images)
        options = dataclasses.replace(options, data=config)
    config = run.data_config if options.data is None else options.data
    if config is not None and options.data_dir is not None:
        config = dataclasses.replace(config, data_dir=options.data_dir)
    results.refuse_among_images("output", path, config)
    source = runs.load_images(run, options)
    if config is not None and (done := _conversions(config, source.binarization)):
        cli.say(
            f"images are {', '.join(done)}, where they are not so already: the levels that this "
            "gives are compressed, bit for bit"
        )
    some = slice(options.limit)
    images, labels = source.split.images[some], source.split.labels
    labels = None if labels is None else labels[some]

    with cli.progress() as bar:
        task = bar.add_task("compressing", total=None)
        content = codec.compress(
            run.model,
            run.variables,
            images,
            labels,
            batch_size=options.batch_size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    dims = images.size
    cli.say(
        f"{len(images)} images of {source.dataset}, {source.name}: {len(content):,} bytes, "
        f"{8 * len(content) / dims:.4f} bits/dim; wrote {path}"
    )
    model_bytes = _model_bits(run, images, labels, options.batch_size) / 8
    cli.say(
        f"-log2 p of the model is {model_bytes:,.0f} bytes, {8 * model_bytes / dims:.4f} bits/dim: "
        f"the file is {len(content) / model_bytes:.4f} times that"
    )
    if options.compare:
        sizes = {f"gen_jax, {type(run.model).__name__}": len(content)}
        sizes |= formats.sizes(images, source.levels)
        for line in table(sizes, dims):
            cli.say(line)
        bits = {name: 8 * size / dims for name, size in sizes.items()}
        results.picture(figures.save_bars, bits, "bits/dim", chart)
    return path


def _conversions(config: data.DataConfig, binarization: str) -> list[str]:
    """What was done to the images, in the run's way unless other options were given."""
    done: list[str] = []
    if config.grayscale:
        done.append("made grey")
    if config.size is not None:
        done.append("resized to {} × {}".format(*config.size))
    if config.values == "intensity":
        if binarization == "none" and config.levels is not None:
            done.append(f"quantised to {config.levels} levels")
        elif binarization not in ("none", AS_PUBLISHED, AS_STORED):
            done.append(f"made binary, {binarization}")
    return done


def table(sizes: Mapping[str, int], dims: int) -> list[str]:
    """What each format takes, a line each: bytes, bits/dim, and times the first."""
    name_length = max(map(len, sizes))
    reference = next(iter(sizes.values()))
    lines = [f"{'':{name_length}}  {'bytes':>12}  {'bits/dim':>9}  {'times':>6}"]
    for name, size in sizes.items():
        bits = 8 * size / dims
        lines.append(f"{name:{name_length}}  {size:>12,}  {bits:>9.4f}  {size / reference:>6.2f}")
    return lines


def _model_bits(
    run: runs.Run, images: np.ndarray, labels: np.ndarray | None, batch_size: int
) -> float:
    """-log2 p of all images, by the whole-image view."""
    mesh = training.make_mesh()
    batches = data.eval_batches(
        data.Split(images, labels), cli.round_up(min(batch_size, len(images)), mesh.size)
    )
    scores = training.score(
        run.model,
        run.variables["params"],
        cli.track(batches, len(batches), "scoring"),
        jax.random.key(0),
        training.LOG_LIKELIHOOD.report,
        mesh,
        "highest",
    )
    dims = int(np.prod(traits(run.model).image_shape))
    return float(np.sum(scores.bits_per_dim, dtype=np.float64)) * dims
