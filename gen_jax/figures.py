"""Pictures: grids, animations, maps of nats, curves. The only file that imports matplotlib.

Images are integer levels, NumPy arrays. Each `save_…` returns the path that it has written, whole
or not at all: OSError if it cannot. `show` is for notebooks. matplotlib's own state, such as its
backend, is left as it is.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.patches import Patch
from PIL import Image, ImageDraw, ImageFont

from gen_jax import checks
from gen_jax.files import PathLike, replacing
from gen_jax.models.shared.protocol import Model, traits
from gen_jax.typing import ArrayLike

_BORDER = (90, 110, 140)
_TO_COME = (214, 222, 235)  # sites not drawn yet: a colour that no grey image has


def to_rgb(images: np.ndarray, levels: int) -> np.ndarray:
    """Levels `[..., C]` as 8-bit RGB `[..., 3]`: 0 is black, `levels - 1` white.

    Three channels are colours. Another number than 1 or 3 is drawn in grey, the channels side by
    side: `[..., H, W, C]` becomes `[..., H, C · W, 3]`.
    """
    rgb = np.round(_laid_out(images).astype(np.float64) * (255 / (levels - 1))).astype(np.uint8)
    return np.broadcast_to(rgb, (*rgb.shape[:-1], 3))


def _laid_out(sites: np.ndarray) -> np.ndarray:
    """Channels as `to_rgb` lays them out."""
    if sites.shape[-1] in (1, 3):
        return sites
    *leading, height, width, channels = sites.shape
    return np.moveaxis(sites, -1, -2).reshape(*leading, height, channels * width, 1)


def tile(rgb: np.ndarray, columns: int | None = None, zoom: int | None = None) -> np.ndarray:
    """Images `[N, H, W, 3]` side by side in one `[h, w, 3]`, about square, with thin borders."""
    count, height, width, _ = rgb.shape
    columns = min(columns or int(np.ceil(np.sqrt(count))), count)
    down = -(-count // columns)
    zoom = zoom or max(1, 720 // (columns * (width + 1)))
    shape = (down * (height + 1) + 1, columns * (width + 1) + 1, 3)
    sheet = np.full(shape, _BORDER, np.uint8)
    for i, image in enumerate(rgb):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        sheet[top : top + height, left : left + width] = image
    return sheet.repeat(zoom, axis=0).repeat(zoom, axis=1)


class Picture(Figure):
    """A matplotlib figure that a notebook shows whatever its backend."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()


def show(images: ArrayLike, model: Model, columns: int | None = None) -> Picture:
    """A matplotlib figure of a grid of a model's images `[B, H, W, C]`, or of one `[H, W, C]`.

    As the last line of a notebook's cell it is seen. Levels need not be whole: the expected ones,
    of a `Likelihood.mean`, are in order. ValueError for images that are not the model's.
    """
    shape, levels = traits(model).image_shape, model.likelihood.levels
    images = np.asarray(images)
    if images.shape[-3:] != shape or images.ndim > 4 or len(images) == 0:
        raise ValueError(
            f"images has shape {images.shape}; accepted by this {type(model).__name__}: "
            f"[B, {', '.join(map(str, shape))}]"
        )
    if not (images.min() >= 0 and images.max() <= levels - 1):
        raise ValueError(
            f"images has levels {images.min()} … {images.max()}; accepted: 0 … {levels - 1}"
        )
    if columns is not None:
        columns = checks.whole("columns", columns, 1)
    sheet = tile(to_rgb(images.reshape(-1, *shape), levels), columns)
    height, width, _ = sheet.shape
    figure = Picture(figsize=(width / 100, height / 100), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(sheet, interpolation="nearest", aspect="auto")
    axis.set_axis_off()
    return figure


def save_grid(
    images: np.ndarray,
    levels: int,
    path: PathLike,
    columns: int | None = None,
    names: Sequence[str] | None = None,
) -> Path:
    """A PNG of images `[N, H, W, C]`; `names` stand above the columns."""
    sheet = tile(to_rgb(images, levels), columns)
    return _save(sheet if names is None else np.concatenate([_names(names, sheet), sheet]), path)


def save_strips(strips: Mapping[str, np.ndarray], levels: int, path: PathLike) -> Path:
    """A PNG of named strips of images `[N, H, W, C]`, one under the other: compare by column."""
    sheets = [tile(to_rgb(x, levels), columns=len(x), zoom=1) for x in strips.values()]
    height, width = sheets[0].shape[:2]
    zoom = max(1, 1400 // width)
    size = (width * zoom / 130 + 1.6, len(strips) * height * zoom / 130)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(strips), 1, squeeze=False)
    for axis, name, sheet in zip(axes[:, 0], strips, sheets, strict=True):
        axis.imshow(sheet, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.spines[:].set_visible(False)
    return _save_figure(figure, path)


def save_bars(values: Mapping[str, float], unit: str, path: PathLike) -> Path:
    """A PNG of named values as bars, from 0 on, the first in another colour."""
    names, lengths = list(values), list(values.values())
    figure = Figure(figsize=(7, 0.36 * len(names) + 0.9), layout="constrained")
    axis = figure.subplots()
    colours = ["tab:blue"] + ["#b8c0cc"] * (len(names) - 1)
    bars = axis.barh(names, lengths, color=colours, height=0.7)
    axis.bar_label(bars, fmt="%.3f", padding=4)
    axis.invert_yaxis()  # the first on top
    axis.margins(x=0.12)
    axis.set_xlabel(unit)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    return _save_figure(figure, path)


def save_completions(
    originals: np.ndarray,
    known: np.ndarray,
    completions: Sequence[np.ndarray],
    levels: int,
    path: PathLike,
) -> Path:
    """A PNG with one row an image: the original, what was known of it, and each completion."""
    whole = _laid_out(np.broadcast_to(known, originals.shape)).all(axis=-1, keepdims=True)
    shown = np.where(whole, to_rgb(originals, levels), np.array(_TO_COME, np.uint8))
    columns = [to_rgb(originals, levels), shown, *(to_rgb(c, levels) for c in completions)]
    in_turn = np.stack(columns, axis=1).reshape(-1, *shown.shape[1:])
    return _save(tile(in_turn, columns=len(columns)), path)


def frames(
    images: np.ndarray, order: np.ndarray, num_frames: int, known: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How `images` came to be: levels `[frames, B, H, W, C]` and which of them stood by then.

    `order` are site ids in generation order (`gen_jax.sampling.generation_order`). A drawn site
    never changes, so the frame after n sites is the image's first n sites, and what was `known`.
    Sites to come are 0. Frames are evenly spaced from an empty one to the whole image.
    """
    num_frames = checks.whole("num_frames", num_frames, 1)
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    rank = np.repeat(rank, images[0].size // order.size).reshape(images.shape[1:])
    counts = np.round(np.linspace(0, order.size, num_frames)).astype(int)
    drawn = rank[None, None] < counts[:, None, None, None, None]
    drawn = np.broadcast_to(drawn, (num_frames, *images.shape))
    if known is not None:
        drawn = drawn | np.broadcast_to(known, images.shape)[None]
    return np.where(drawn, images[None], 0).astype(images.dtype), drawn


def save_animation(
    frames: np.ndarray,
    drawn: np.ndarray,
    levels: int,
    path: PathLike,
    seconds: float = 6.0,
) -> Path:
    """A GIF of frames `[frames, N, H, W, C]`; sites that `drawn` lacks have their own colour.

    It rests on the last frame for two seconds and starts again.
    """
    whole = _laid_out(np.broadcast_to(drawn, frames.shape)).all(axis=-1, keepdims=True)
    shown = np.where(whole, to_rgb(frames, levels), np.array(_TO_COME, np.uint8))
    pictures = [Image.fromarray(tile(frame)) for frame in shown]
    step = max(20, int(1000 * seconds / len(pictures)))
    durations = [step] * (len(pictures) - 1) + [2000]
    rest = {"append_images": pictures[1:], "duration": durations, "loop": 0, "optimize": True}
    with replacing(path) as temporary:
        pictures[0].save(temporary, save_all=True, **rest)
    return Path(path)


def save_site_map(
    images: np.ndarray, nats: np.ndarray, levels: int, path: PathLike, count: int = 12
) -> Path:
    """A PNG of the first `count` images over maps of −log p in bits a pixel: where they surprise.

    `nats` are log p(x_i | x_<i) of every site, `[N, H, W, S]`, as
    `gen_jax.objectives.log_likelihood_map` gives them.
    """
    count = min(count, len(images))
    bits = -np.asarray(nats)[:count].sum(axis=-1) / np.log(2)
    figure = Figure(figsize=(1.1 * count + 1, 2.6), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    for i in range(count):
        axes[0, i].imshow(to_rgb(images[i], levels))
        shown = axes[1, i].imshow(bits[i], cmap="magma", vmin=0, vmax=np.quantile(bits, 0.995))
    for axis in axes.flat:
        axis.set_axis_off()
    figure.colorbar(shown, ax=axes[1].tolist(), label="bits a pixel", shrink=0.9)
    return _save_figure(figure, path)


def save_regions(
    panels: Mapping[str, np.ndarray], regions: Mapping[str, str], path: PathLike
) -> Path:
    """A PNG of maps `[H, W]` side by side; integers are places in `regions` (name: colour)."""
    colours = np.array([to_rgba(colour) for colour in regions.values()])
    figure = Figure(figsize=(3.4 * len(panels), 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, (title, panel) in zip(axes[0], panels.items(), strict=True):
        axis.imshow(colours[panel])
        axis.set(title=title, xticks=[], yticks=[])
    handles = [Patch(color=colour, label=name) for name, colour in regions.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(regions), frameon=False)
    return _save_figure(figure, path)


def save_curves(
    curves: Mapping[str, tuple[Sequence[int | float], Sequence[int | float]]],
    path: PathLike,
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    log_log: bool = False,
    markers: bool = False,
) -> Path:
    """A PNG of named curves, each (x values, y values)."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    for name, (x, y) in curves.items():
        axis.plot(x, y, label=name, marker="o" if markers else None, linewidth=1.5)
    if log_log:
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
    elif all(len(y) for _, y in curves.values()):
        # The first steps fall from far above: show the rest.
        values = np.concatenate([np.asarray(y, float) for _, y in curves.values()])
        low, high = values.min(), np.quantile(values, 0.97)
        axis.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low) + 1e-9)
    axis.set(xlabel=x_label, ylabel=y_label, title=title)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return _save_figure(figure, path)


def _names(names: Sequence[str], sheet: np.ndarray) -> np.ndarray:
    """A strip as wide as the sheet, with a name in the middle of each column, made to fit."""
    column = sheet.shape[1] / len(names)
    longest = max(max(map(len, names)), 1)
    size = int(np.clip(1.6 * column / longest, 9, 20))
    font = ImageFont.truetype(findfont("DejaVu Sans"), size)
    strip = Image.new("RGB", (sheet.shape[1], 2 * size), _BORDER)
    pen = ImageDraw.Draw(strip)
    for i, name in enumerate(names):
        while len(name) > 1 and pen.textlength(name, font) > column:
            name = name.removesuffix("…")[:-1] + "…"
        pen.text(((i + 0.5) * column, size), name, (255, 255, 255), font, anchor="mm")
    return np.asarray(strip)


def _save(rgb: np.ndarray, path: PathLike) -> Path:
    with replacing(path) as temporary:
        Image.fromarray(rgb).save(temporary)
    return Path(path)


def _save_figure(figure: Figure, path: PathLike) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return Path(path)
