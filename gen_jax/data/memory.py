"""Whether a data set fits in memory, by an estimate: Linux kills a process that takes too much."""

import contextlib
import os
from pathlib import Path

_COPIES = 2  # the images as they come and as one array, or that array and its splits


def check(name: str, shape: tuple[int, int, int, int], itemsize: int, held: int = 0) -> None:
    """ValueError unless images `[N, H, W, C]`, and `held` bytes besides, fit in memory."""
    count, height, width, channels = shape
    needed = _COPIES * count * height * width * channels * itemsize + held
    free = available()
    if free is not None and needed > free:
        raise ValueError(
            f"{name}: {count:,} images of {height} x {width} x {channels} would take about"
            f" {needed / 2**30:,.1f} GiB of memory, of which {free / 2**30:,.1f} GiB are available:"
            " set a smaller size, or take fewer images"
        )


def available() -> int | None:
    """Bytes of memory that a process may still take; None where the system does not say."""
    limits = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        limits.append(1024 * int(fields["MemAvailable"].split()[0]))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # of a container; "max" if it has none
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits, default=None)
