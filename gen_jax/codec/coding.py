"""Compressing and decompressing: what is given is checked, then coded a batch at a time."""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax import checks, models
from gen_jax.codec.container import (
    MAX_BATCH,
    Container,
    Fingerprints,
    Stream,
    levels_crc,
    parse,
)
from gen_jax.codec.entropy import Decoder, Encoder, StreamError, constriction, frequencies
from gen_jax.codec.next_site import NextSite, next_site
from gen_jax.models.shared.parameters import check_parameters
from gen_jax.models.shared.protocol import (
    BlockModel,
    Model,
    Traits,
    check_inputs,
    has_code,
    has_next_site_view,
    refuse,
    traits,
)
from gen_jax.typing import AnyLabels, AnyLevels, Integer, Json, UInt, Variables

Progress: TypeAlias = Callable[[int, int], object]
"""Called with how many blocks, of all batches, are done, and how many there are."""
Code: TypeAlias = Callable[[int, int, np.ndarray], np.ndarray]
"""Codes levels `[n]` of a value of a site by frequencies `[n, levels]`, and gives the levels."""


def compress(
    model: Model,
    variables: Variables,
    images: AnyLevels,
    labels: AnyLabels | None = None,
    *,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> bytes:
    """Images `[B, H, W, C]` of integer levels, any number of them, as a file: see `gen_jax.codec`.

    It takes about −log2 p(images | labels) bits, 105 bytes, and 12 to 20 for each batch. Labels, of
    a model with classes, are stored as they are. At most `batch_size` images, up to 1024, are coded
    together: the more, the faster; decoding takes the memory of as many.

    ValueError for images, labels or parameters that are not this model's, for a model that is not
    autoregressive or has no next-site view, and if the entropy coder is not installed;
    NonFiniteError for parameters or probabilities that are not finite.
    """
    constriction()
    batch_size = checks.whole("batch_size", batch_size, 1, MAX_BATCH)
    model = _checked(model, variables)
    images, labels = check_inputs(model, images, labels)
    images = np.asarray(images)
    labels = None if labels is None else np.asarray(labels)
    of, count = traits(model), len(images)
    # As equal as can be: the last is padded.
    batches = max(-(-count // batch_size), 1)
    batch = max(-(-count // batches), 1)
    programs = next_site(model, variables, batch, _device())
    prints = _fingerprints(model, variables, programs.fingerprint)
    walk = _Walk(programs, variables, labels, progress, -(-count // batch))
    streams: list[Stream] = []
    for start in range(0, count, batch):
        part = images[start : start + batch]
        by_site, encoder = _by_site(part, of), Encoder()

        def encode(
            site: int,
            value: int,
            counts: Integer[np.ndarray, "n levels"],
            by_site: Integer[np.ndarray, "n N V"] = by_site,
            encoder: Encoder = encoder,
        ) -> Integer[np.ndarray, " n"]:
            levels = by_site[:, site, value]
            encoder.encode(levels, counts)
            return levels

        walk(start, len(part), encode)
        streams.append(Stream(encoder.data(), levels_crc(part, of.likelihood.levels)))
    return Container(
        of.image_shape, of.likelihood.levels, of.num_classes, count, batch, prints, labels, streams
    ).to_bytes()


def decompress(
    model: Model,
    variables: Variables,
    data: bytes,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[UInt[np.ndarray, "B H W C"], Integer[np.ndarray, " B"] | None]:
    """What `compress` was given: images, uint8 or above 256 levels uint16, and labels.

    With `force` also of another version of JAX, another platform or machine, where the programs
    may give other probabilities: then what is returned is what was compressed all the same, or it
    is a ValueError.

    ValueError for what `compress` did not give, for a damaged file, for one of another model or
    other parameters, or, unless forced, of another machine or version; else as for `compress`.
    """
    constriction()
    model, force = _checked(model, variables), checks.flag("force", force)
    held, of = parse(data), traits(model)
    shape = (held.image_shape, held.levels, held.num_classes)
    own = (of.image_shape, of.likelihood.levels, of.num_classes)
    name = type(model).__name__
    if shape != own:
        raise ValueError(
            f"data holds {_described(*shape)}; accepted by this {name}: {_described(*own)}"
        )
    there = held.fingerprints
    # Before anything is compiled, all but the programs.
    here = _fingerprints(model, variables, there.programs)
    if there.model != here.model:
        raise ValueError(
            "data is of another model, or of other parameters: fingerprint "
            f"{there.model.hex()[:12]}; accepted by this {name}: {here.model.hex()[:12]}"
        )
    differences = _differences(there, here, force)
    programs = next_site(model, variables, held.batch, _device())
    here = here._replace(programs=programs.fingerprint)
    differences = differences or _differences(there, here, force)
    walk = _Walk(programs, variables, held.labels, progress, len(held.streams))
    images: list[np.ndarray] = [np.zeros((0, *of.image_shape), _dtype(held.levels))]
    start = 0
    for stream, count in zip(held.streams, held.counts(), strict=True):
        decoder, blank = Decoder(stream.data), np.zeros((count, *of.image_shape), np.int32)
        found = _by_site(blank, of)

        def decode(
            site: int,
            value: int,
            counts: Integer[np.ndarray, "n levels"],
            found: Integer[np.ndarray, "n N V"] = found,
            decoder: Decoder = decoder,
        ) -> Integer[np.ndarray, " n"]:
            found[:, site, value] = decoder.decode(counts)
            return found[:, site, value]

        try:
            walk(start, count, decode)
        except StreamError:
            _other_levels(start, count, differences)
        part = found.reshape(blank.shape).astype(_dtype(held.levels))
        if levels_crc(part, held.levels) != stream.levels_crc:
            _other_levels(start, count, differences)
        images.append(part)
        start += count
    return np.concatenate(images), held.labels


class _Walk:
    """Codes batch after batch by the same programs, whoever supplies the levels."""

    def __init__(
        self,
        programs: NextSite,
        variables: Variables,
        labels: np.ndarray | None,
        progress: Progress | None,
        batches: int,
    ) -> None:
        self._programs = programs
        self._variables = jax.device_put(variables, _device())
        self._labels = labels
        self._progress = progress
        self._done, self._total = 0, batches * len(programs.model.blocks())

    def __call__(self, start: int, count: int, code: Code) -> None:
        """Asks `code` for the levels of images `start …`; those that pad the batch have 0."""
        batch = self._programs.batch

        def supply(
            site: int, value: int, steps: UInt[np.ndarray, "B levels"]
        ) -> Integer[np.ndarray, " B"]:
            if steps.min(axis=-1).any():
                raise checks.NonFiniteError(
                    f"the probabilities of site {site} are not finite, by "
                    f"{type(self._programs.model).__name__}"
                )
            levels = np.zeros(batch, np.int32)
            levels[:count] = code(site, value, frequencies(steps[:count]))
            return levels

        labels = None
        if self._labels is not None:
            labels = np.zeros(batch, np.int32)
            labels[:count] = self._labels[start : start + count]
        self._programs.walk(self._variables, labels, supply, self._tell)

    def _tell(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _checked(model: Model, variables: Variables) -> BlockModel:
    """The model, if it can be coded with. ValueError if not, and for other parameters."""
    if has_code(model):
        refuse(model, "an autoregressive model")
    if not has_next_site_view(model):
        refuse(model, "one with a next-site view (blocks, init_carry, begin_block, step)")
    if (levels := traits(model).likelihood.levels) > 65536:
        raise ValueError(f"levels is {levels}; accepted, to be coded: at most 65536")
    if check_parameters(model, variables):
        raise ValueError("variables are traced, inside a jit; accepted: arrays, outside of one")
    return cast(BlockModel, model)


def _by_site(images: np.ndarray, of: Traits) -> Integer[np.ndarray, "n N V"]:
    """Levels by site id."""
    return images.reshape(len(images), -1, of.values_per_site)


def _dtype(levels: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if levels <= 256 else np.uint16


def _described(shape: tuple[int, int, int], levels: int, num_classes: int | None) -> str:
    size = "×".join(map(str, shape))
    return f"images of {size}, {levels} levels and {num_classes or 'no'} classes"


def _other_levels(start: int, count: int, differences: str) -> NoReturn:
    why = f"with {differences}" if differences else "where the same programs gave other numbers"
    raise ValueError(
        f"images {start} … {start + count - 1} of data decode to others than were compressed "
        f"({why}); accepted: a machine, a platform and versions like those that compressed it"
    )


# Fingerprints.


def _fingerprints(model: Model, variables: Variables, programs: bytes) -> Fingerprints:
    versions = (jax.__version__, *map(metadata.version, ("jaxlib", "constriction")))
    return Fingerprints(
        model=_model_fingerprint(model, variables),
        machine=_machine_fingerprint(),
        programs=programs,
        versions="/".join(versions),
        platform=_device().platform,
    )


def _model_fingerprint(model: Model, variables: Variables) -> bytes:
    """Of what the model says of itself, and of every parameter to the last bit.

    What is by default is left out: a field that a later version adds changes nothing.
    """
    fields = models.to_dict(model)
    _drop_defaults(model, fields)
    _drop_defaults(model.likelihood, fields.get("likelihood", {}))
    said = json.dumps(fields, sort_keys=True)
    digest = hashlib.sha256(said.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.digest()[:16]


def _drop_defaults(thing: Any, fields: Json) -> None:
    """Takes from the fields of a dataclass, as JSON, those at their default."""
    if dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            if getattr(thing, field.name) == field.default:
                fields.pop(field.name, None)


def _machine_fingerprint() -> bytes:
    """Of the device and, on a CPU, of what XLA compiles for and how many threads share the work."""
    device = _device()
    parts = [device.platform, device.device_kind, os.environ.get("XLA_FLAGS", "")]
    if device.platform == "cpu":
        parts += [platform.machine(), str(_threads())]
        with contextlib.suppress(OSError):
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            for field in ("model name", "flags", "Features"):
                parts += [line for line in lines if line.startswith(field)][:1]
    return hashlib.sha256("\n".join(parts).encode()).digest()[:8]


def _threads() -> int | None:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _differences(there: Fingerprints, here: Fingerprints, force: bool) -> str:
    """In what the programs that compressed differ from those of this process; "" if in nothing.

    ValueError if in anything, unless forced.
    """
    if there.platform != here.platform:
        found = f"platform {there.platform} (here {here.platform})"
    elif there.versions != here.versions:
        found = f"JAX/jaxlib/constriction {there.versions} (here {here.versions})"
    elif there.machine != here.machine:
        found = "another kind or number of processors, or other XLA_FLAGS, than here"
    elif there.programs != here.programs:
        found = "other programs than here: another gen_jax, model code or settings of JAX"
    else:
        return ""
    if not force:
        raise ValueError(
            f"data was compressed with {found}; accepted: the same, or force (--force), "
            "which may fail but never gives other images"
        )
    return found


def _device() -> Any:
    """Where JAX puts what it computes."""
    return jnp.zeros(()).device
