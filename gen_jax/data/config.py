"""Which data set, and what is done to it: the options, and what is wrong with them."""

import dataclasses
import os
from typing import Literal

from gen_jax import checks
from gen_jax.typing import Json

Binarize = Literal["static", "dynamic", "threshold"]
"""How images are made binary: see `DataConfig.binarize`."""
Values = Literal["intensity", "levels"]
"""What the stored values mean: see `DataConfig.values`."""
Background = Literal["black", "white"]

MAX_SEED = 2**32 - 1
MAX_VALUE = 2**16 - 1


class DataWarning(UserWarning):
    """Something of a data set was left out, or is probably not what was meant."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and what is done to them: grayscale, then resize, then binarize or levels."""

    name: str = "digits"
    """digits (inside scikit-learn), a TFDS name such as mnist or name/config:version,
    a path to a .npz (`images`, optionally `labels`),
    or one to a folder of images (sub-folders are classes, or the splits train, val and test)."""
    data_dir: str | None = None
    """Folder of the prepared TFDS sets; else $TFDS_DATA_DIR; else ~/tensorflow_datasets."""
    binarize: Binarize | None = None
    """static: one draw of each pixel, with probability intensity / maximum.
    dynamic: a new draw each time that a training image is seen; validation and test as static.
    threshold: above half."""
    levels: int | None = None
    """Quantise to so many levels (32: 5 bits of 8); with values=levels, how many there are."""
    size: tuple[int, int] | None = None
    """Resize to (height, width), bilinear with antialiasing; with values=levels the nearest pixel.
    A binary set gets 256 levels by it."""
    grayscale: bool = False
    """Make colours grey: luma by ITU-R 601."""
    validation: int | None = None
    """How many images to hold out of train, where the set has no validation split.
    By default one in ten, at random; MNIST: its last 10,000; digits: 250 that no seed changes."""
    test: int | None = None
    """How many images to hold out of train, where the set has no test split.
    By default one in ten, at random; digits: 250 that no seed changes."""
    seed: int = 0
    """Seed of random splits and of static draws (validation and test of dynamic included)."""
    values: Values = "intensity"
    """intensity: stored values go from black, 0, to white.
    levels: they are levels 0, 1, … already (codes, label maps, indices of a palette)."""
    maximum: int | None = None
    """The stored intensity that is white, such as 4095 for 12 bits in uint16.
    By default 255, or 65535 for 16-bit images."""
    background: Background = "black"
    """What shows through where an image is transparent."""
    flip: bool = False
    """Mirror each training image left to right with probability 1/2, anew each time it is seen."""
    shift: int = 0
    """Move each training image by up to this many pixels each way, anew each time it is seen.
    What comes into view repeats the edge."""


# The least and the most of every number.
_LIMITS = {
    "levels": (2, MAX_VALUE + 1),
    "validation": (1, None),
    "test": (1, None),
    "maximum": (1, MAX_VALUE),
    "seed": (0, MAX_SEED),
    "shift": (0, None),
}
# Options of later versions: left out of a record at their default, as those of before lack them.
_LATER = ("values", "maximum", "background", "flip", "shift")


def to_dict(config: DataConfig) -> Json:
    """For JSON; `DataConfig(**fields)` is the way back, and takes those of earlier versions."""
    fields = dataclasses.asdict(config)
    default = dataclasses.asdict(DataConfig())
    return {k: v for k, v in fields.items() if k not in _LATER or v != default[k]}


def augmentation(config: DataConfig) -> str:
    """What is done to training images, in words: 'none', 'flips', 'flips, shifts of 2'."""
    shifts = f"shifts of {config.shift}" if config.shift else ""
    return ", ".join(filter(None, ("flips" if config.flip else "", shifts))) or "none"


def checked(config: "DataConfig | str | os.PathLike[str]") -> DataConfig:
    """The configuration, or that of a name, with plain Python values.

    Raises ValueError for what is wrong whatever the set, TypeError for a value of the wrong type.
    """
    if isinstance(config, str | os.PathLike):
        config = DataConfig(os.fspath(config))
    if not isinstance(config, DataConfig):
        raise TypeError(f"config is {config!r}; accepted: a DataConfig, or a data set's name")
    for key, choices in (("binarize", Binarize), ("values", Values), ("background", Background)):
        if key != "binarize" or config.binarize is not None:
            checks.choice(key, getattr(config, key), choices, also="None" * (key == "binarize"))
    plain: dict[str, object] = {key: _number(config, key, *_LIMITS[key]) for key in _LIMITS}
    plain |= {key: checks.flag(key, getattr(config, key)) for key in ("grayscale", "flip")}
    if config.size is not None:
        plain["size"] = checks.wholes("size (height, width)", config.size, 1, 2)
    for key in ("name", "data_dir"):
        value = getattr(config, key)
        if not isinstance(value, str | os.PathLike) and not (value is None and key == "data_dir"):
            raise TypeError(f"{key} is {value!r}; accepted: a text, or a path")
        plain[key] = None if value is None else os.fspath(value)
    config = dataclasses.replace(config, **plain)
    if config.binarize and config.levels not in (None, 2):
        raise ValueError(
            f"levels is {config.levels}; accepted, with binarize={config.binarize!r}: 2, or None"
        )
    if config.values == "levels":
        for key in ("binarize", "maximum", "grayscale"):
            if getattr(config, key):
                raise ValueError(
                    f"{key} is {getattr(config, key)!r}; accepted, with values='levels', which "
                    f"stay as they are: {getattr(DataConfig, key)}"
                )
    return config


def check_seed(seed: int) -> None:
    """ValueError unless NumPy takes it."""
    checks.whole("seed", seed, *_LIMITS["seed"])


def _number(config: DataConfig, key: str, least: int, most: int | None) -> int | None:
    value = getattr(config, key)
    if value is None and getattr(DataConfig, key) is None:
        return None
    return checks.whole(key, value, least, most)
