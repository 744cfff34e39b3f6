"""Which data set, and what is done to it: the options, and what is wrong with them."""

import dataclasses
import operator
import os
from typing import Any, Literal, get_args

import numpy as np

Binarize = Literal["static", "dynamic", "threshold"]
Values = Literal["intensity", "levels"]
Background = Literal["black", "white"]

MAX_SEED = 2**32 - 1
MAX_VALUE = 2**16 - 1


class DataWarning(UserWarning):
    """Something of a data set was left out, or is probably not what was meant."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and what is done to them: grayscale, then resize, then binarize or levels."""

    name: str = "digits"
    """'digits' (embedded), a TFDS name such as 'mnist' or 'name/config:version', a path to a .npz
    (`images`, optionally `labels`), or a path to a folder of images (sub-folders are classes, or
    the splits train, val and test)."""
    data_dir: str | None = None
    """Folder of the prepared TFDS sets; else $TFDS_DATA_DIR; else ~/tensorflow_datasets."""
    binarize: Binarize | None = None
    """static: one draw of each pixel, with probability intensity / maximum. dynamic: a new draw
    each time that a training image is seen; validation and test as static. threshold: above half.
    """
    levels: int | None = None
    """Quantise to this many levels (32 makes 5 bits of 8). With values=levels: how many there are.
    """
    size: tuple[int, int] | None = None
    """Resize to (height, width), bilinear with antialiasing. A binary set gets 256 levels by it.
    With values=levels: the nearest pixel."""
    grayscale: bool = False
    """Colours to luma (ITU-R 601)."""
    validation: int | None = None
    """Images held out of train where the set has no validation split: drawn at random, by default
    one in ten. MNIST: its last 10,000. digits: 250, by a permutation that no seed changes."""
    test: int | None = None
    """Likewise where the set has no test split."""
    seed: int = 0
    """Of the random split and of the static draws (validation and test of dynamic included)."""
    values: Values = "intensity"
    """levels: the stored values are levels 0, 1, … already (codes, label maps; of a palette image
    its indices), and stay as they are. intensity: they go from black, 0, to white."""
    maximum: int | None = None
    """The stored intensity that is white, such as 4095 for 12 bits in uint16; by default 255, or
    65535 of 16-bit images."""
    background: Background = "black"
    """What shows through where an image is transparent."""
    flip: bool = False
    """Mirror each training image left to right with probability 1/2, anew each time it is seen."""
    shift: int = 0
    """Move each training image by up to this many pixels each way, anew each time it is seen; what
    comes into view repeats the edge."""


# Options of later versions: left out of a record at their default, as those of before lack them.
_LATER = ("values", "maximum", "background", "flip", "shift")


def to_dict(config: DataConfig) -> dict[str, Any]:
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
        raise TypeError(f"config is {config!r}: accepted are a DataConfig and a data set's name")
    for key, choice in (("binarize", Binarize), ("values", Values), ("background", Background)):
        accepted, none = get_args(choice), " or None" if key == "binarize" else ""
        if getattr(config, key) not in accepted and not (none and getattr(config, key) is None):
            raise ValueError(f"{key}={getattr(config, key)!r}: accepted are {accepted}{none}")
    plain: dict[str, Any] = {"size": _size(config.size)}
    for key in ("grayscale", "flip"):
        if not isinstance(getattr(config, key), bool | np.bool):
            raise TypeError(f"{key}={getattr(config, key)!r}: accepted are True and False")
        plain[key] = bool(getattr(config, key))
    for key in ("levels", "validation", "test", "maximum", "seed", "shift"):
        value, optional = getattr(config, key), key not in ("seed", "shift")
        plain[key] = None if value is None and optional else _integer(key, value)
    for key in ("name", "data_dir"):
        value = getattr(config, key)
        if not isinstance(value, str | os.PathLike) and not (value is None and key == "data_dir"):
            raise TypeError(f"{key}={value!r}: accepted are a name and a path")
        plain[key] = None if value is None else os.fspath(value)
    config = dataclasses.replace(config, **plain)
    _check_numbers(config)
    if config.binarize and config.levels not in (None, 2):
        raise ValueError(
            f"levels={config.levels} with binarize={config.binarize!r}: a binarized set has 2"
            " levels; leave one of them out"
        )
    if config.values == "levels":
        for key in ("binarize", "maximum", "grayscale"):
            if getattr(config, key):
                raise ValueError(
                    f"{key}={getattr(config, key)!r} with values='levels': it is for intensities;"
                    " levels stay as they are"
                )
    return config


def check_seed(seed: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed={seed}: accepted are 0 to {MAX_SEED}")


def _check_numbers(config: DataConfig) -> None:
    if config.levels is not None and not 2 <= config.levels <= MAX_VALUE + 1:
        more = "2 and more" if config.levels < 2 else f"2 to {MAX_VALUE + 1}"
        raise ValueError(f"levels={config.levels}: accepted are {more}")
    if config.maximum is not None and not 1 <= config.maximum <= MAX_VALUE:
        raise ValueError(f"maximum={config.maximum}: accepted are 1 to {MAX_VALUE}")
    for key in ("validation", "test"):
        count = getattr(config, key)
        if count is not None and count < 1:
            raise ValueError(f"{key}={count}: accepted are 1 and more")
    if config.shift < 0:
        raise ValueError(f"shift={config.shift}: accepted are 0 and more")
    check_seed(config.seed)


def _size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        height, width = size
    except (TypeError, ValueError):
        height = width = 0
    height, width = _integer("size", height), _integer("size", width)
    if min(height, width) < 1:
        raise ValueError(f"size={size}: accepted are a height and a width, both positive")
    return height, width


def _integer(key: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        kind = ValueError if isinstance(value, float) else TypeError
        raise kind(f"{key}={value!r}: accepted are integers") from None
