"""The format of a compressed file; little-endian throughout.

```text
8 bytes   magic, as of PNG: what a transfer as text would change
u8        version
u32       length of the header in bytes
u32       CRC-32 of version, length and header
header    height, width, channels, levels, classes (0: none), images a batch    6 x u32
          images                                                                u64
          fingerprints: of the model, 16 bytes; of the machine and the programs, 8 bytes each
          the versions, the platform            each a u8, its length, and ASCII
          labels, if there are classes: 1, 2 or 4 bytes each, the fewest that hold all classes
          for each batch: length of its stream, CRC-32 of the stream, CRC-32 of its levels  3 x u32
streams   of the batches in order, each a whole number of 32-bit words, up to the end of the file
```

Levels are checked as bytes in the order of the image, 1 each, or 2 above 256 levels.
Every length is compared with the size of the data before anything is made of it.
"""

import dataclasses
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

import numpy as np

MAGIC = b"\x8agenjax\n"
"""What every file begins with."""
VERSION = 1
MAX_BATCH = 1024
"""Images in a batch at most, of any file: what decoding takes is bounded by that."""

_PREFIX = struct.Struct("<8sBII")
_FIXED = struct.Struct("<6IQ16s8s8s")
_ENTRY = struct.Struct("<3I")


class Stream(NamedTuple):
    """The coded levels of one batch."""

    data: bytes
    levels_crc: int
    """CRC-32 of the levels that it decodes to."""


class Fingerprints(NamedTuple):
    """What decides whether a decoder computes what the encoder computed."""

    model: bytes
    """Of the model and its parameters, 16 bytes."""
    machine: bytes
    """Of the device and of what decides how it is used, 8 bytes."""
    programs: bytes
    """Of the programs and the options that they are compiled with, 8 bytes."""
    versions: str
    """Those of JAX, jaxlib and constriction."""
    platform: str
    """Such as cpu or gpu."""


@dataclasses.dataclass(frozen=True)
class Container:
    """What a compressed file says, and holds."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    levels: int
    num_classes: int | None
    count: int
    """Images."""
    batch: int
    """Images coded together."""
    fingerprints: Fingerprints
    labels: np.ndarray | None
    """The class of each image, int32, of a model with classes."""
    streams: Sequence[Stream]

    def counts(self) -> Iterator[int]:
        """Images of each stream."""
        for start in range(0, self.count, self.batch):
            yield min(self.batch, self.count - start)

    def to_bytes(self) -> bytes:
        """The file."""
        prints = self.fingerprints
        fixed = (*self.image_shape, self.levels, self.num_classes or 0, self.batch, self.count)
        header = [_FIXED.pack(*fixed, prints.model, prints.machine, prints.programs)]
        for text in (prints.versions, prints.platform):
            encoded = text.encode("ascii", "replace")[:255]
            header.append(bytes([len(encoded)]) + encoded)
        if self.labels is not None:
            header.append(self.labels.astype(_label_type(self.num_classes or 0)).tobytes())
        for stream in self.streams:
            entry = len(stream.data), zlib.crc32(stream.data), stream.levels_crc
            header.append(_ENTRY.pack(*entry))
        text = b"".join(header)
        crc = _header_crc(VERSION, len(text), text)
        prefix = _PREFIX.pack(MAGIC, VERSION, len(text), crc)
        return b"".join([prefix, text, *(stream.data for stream in self.streams)])


def parse(data: bytes) -> Container:
    """What a compressed file says and holds, every checksum of it checked; it needs no model.

    ValueError for what is no such file, for another version, and for a damaged one.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data is a {type(data).__name__}; accepted: bytes, as compress gives them")
    data = bytes(data)
    if not data.startswith(MAGIC):
        if len(data) < len(MAGIC) and MAGIC.startswith(data):
            _cut_short(data)
        raise ValueError(f"data begins with {data[:8]!r}; accepted: what compress gives")
    if len(data) < _PREFIX.size:
        _cut_short(data)
    _, version, length, crc = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"data is of version {version} of the format; accepted: {VERSION}")
    streams_at = _PREFIX.size + length
    if streams_at > len(data):
        _cut_short(data)
    header = data[_PREFIX.size : streams_at]
    if crc != _header_crc(version, length, header):
        _damaged("its header has another checksum")
    *fixed, model, machine, programs = _FIXED.unpack_from(_at_least(header, _FIXED.size))
    height, width, channels, levels, classes, batch, count = fixed
    if not 1 <= batch <= MAX_BATCH:
        _damaged(f"it has batches of {batch} images, where 1 … {MAX_BATCH} are")
    at = _FIXED.size
    texts = []
    for _ in range(2):
        size = _at_least(header, at + 1)[at]
        texts.append(_at_least(header, at + 1 + size)[at + 1 : at + 1 + size].decode("ascii"))
        at += 1 + size
    label_type = _label_type(classes)
    label_size = count * label_type.itemsize if classes else 0
    num_streams = -(-count // batch)
    if at + label_size + num_streams * _ENTRY.size != length:
        _damaged(f"it says {count} images, and its header has another length")
    labels = None
    if classes:
        labels = np.frombuffer(header, label_type, count, at)
        if count and int(labels.max()) >= classes:
            _damaged(f"it has a label {labels.max()}, of {classes} classes")
        labels = labels.astype(np.int32)
    entries = list(_ENTRY.iter_unpack(header[at + label_size :]))
    total = streams_at + sum(size for size, _, _ in entries)
    if len(data) < total:
        _cut_short(data, total)
    if len(data) > total:
        raise ValueError(f"data has {len(data)} bytes; accepted: the {total} that it says it has")
    streams, at = [], streams_at
    for number, (size, stream_crc, levels_crc) in enumerate(entries, 1):
        stream = data[at : at + size]
        if zlib.crc32(stream) != stream_crc or size % 4:
            _damaged(f"stream {number} of {len(entries)} has another checksum")
        streams.append(Stream(stream, levels_crc))
        at += size
    return Container(
        image_shape=(height, width, channels),
        levels=levels,
        num_classes=classes or None,
        count=count,
        batch=batch,
        fingerprints=Fingerprints(model, machine, programs, *texts),
        labels=labels,
        streams=streams,
    )


def levels_crc(images: np.ndarray, levels: int) -> int:
    """CRC-32 of levels `[B, H, W, C]`, whatever integers they are."""
    return zlib.crc32(np.ascontiguousarray(images, "u1" if levels <= 256 else "<u2").tobytes())


def _label_type(classes: int) -> np.dtype:
    return np.dtype("u1" if classes <= 256 else "<u2" if classes <= 65536 else "<u4")


def _header_crc(version: int, length: int, header: bytes) -> int:
    return zlib.crc32(header, zlib.crc32(struct.pack("<BI", version, length)))


def _at_least(header: bytes, size: int) -> bytes:
    if len(header) < size:
        _damaged(f"its header has {len(header)} bytes")
    return header


def _cut_short(data: bytes, total: int | None = None) -> NoReturn:
    of = "" if total is None else f" of {total}"
    raise ValueError(f"data is cut short, at {len(data)} bytes{of}; accepted: a whole file")


def _damaged(what: str) -> NoReturn:
    raise ValueError(f"data is damaged: {what}; accepted: what compress gave, unchanged")
