"""Whether a data set fits in memory, by an estimate."""

from gen_jax.memory import available

_COPIES = 2  # the images as they come and as one array, or that array and its splits


def check(name: str, shape: tuple[int, int, int, int], itemsize: int, held: int = 0) -> None:
    """ValueError unless images `[N, H, W, C]`, and `held` bytes besides, fit in memory."""
    count, height, width, channels = shape
    needed = _COPIES * count * height * width * channels * itemsize + held
    free = available()
    if free is not None and needed > free:
        raise ValueError(
            f"{name}: {count:,} images of {height} x {width} x {channels} would take about "
            f"{needed / 2**30:,.1f} GiB of memory; accepted: what fits the {free / 2**30:,.1f} GiB "
            "available, by a smaller size or fewer images"
        )
