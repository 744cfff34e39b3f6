"""From stored values to levels: grayscale, resize, and which value is white."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from gen_jax.data import memory
from gen_jax.data.config import DataConfig
from gen_jax.memory import available

_STRETCH = 2**28  # bytes after which memory is looked at again
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601


class Pixels:
    """Takes a set's images `[H, W, C]` as they are decoded, and gives one array a split.

    Each is made grey and resized at once, so that only small images stay in memory. But a set of
    two values only, 0 and 1 or 0 and white, is binary, and its images stay as they are until all
    have been seen: such a set has one channel if all are equal, and mixing its pixels gives 256
    levels.
    """

    def __init__(self, config: DataConfig):
        self.config = config
        self.notes: list[str] = []
        self.doubts: list[str] = []  # what is probably not what was meant
        self.coloured = False  # a palette held colours: they are not bits, though 0 and 255 only
        self._images: dict[str, list[np.ndarray]] = {}
        self._first_image: np.ndarray | None = None
        self._largest: dict[str, int] = {}
        # While every image holds 0 and one other value: these values.
        self._two_valued = config.values == "intensity"
        self._highs: set[int] = set()
        self._held = 0

    @property
    def black(self) -> bool:
        """Whether every value so far is 0."""
        return not any(self._largest.values())

    @property
    def sixteen_bits(self) -> bool:
        return self._first_image is not None and self._first_image.itemsize == 2

    def expect(self, count: int, shape: tuple[int, ...], itemsize: int = 1, held: int = 0) -> None:
        """ValueError unless `count` images as stored, `[H, W, C]`, fit in memory; `held`: bytes
        that reading takes besides."""
        height, width = self.config.size or shape[:2]
        channels = 1 if self.config.grayscale else shape[2]
        memory.check(self.config.name, (count, height, width, channels), itemsize, held)

    def take(self, split: str, images: Iterable[np.ndarray]) -> None:
        """More images of a split."""
        kept = self._images.setdefault(split, [])
        self._largest.setdefault(split, 0)
        for image in images:
            self._compare(image)
            largest = int(image.max())
            self._largest[split] = max(self._largest[split], largest)
            if self._two_valued and not self._is_two_valued(image, largest):
                self._convert_all()
            kept.append(image if self._two_valued else self._convert(image))
            if self._two_valued and self.config.size is not None:
                self._hold(image.nbytes)

    def _hold(self, size: int) -> None:
        """ValueError where images of two values, which are kept as stored, fill the memory."""
        self._held += size
        if self._held // _STRETCH == (self._held - size) // _STRETCH:
            return
        free = available()
        if free is not None and free < 2 * _STRETCH:
            raise ValueError(
                f"{self.config.name}: images of two values are kept as they are stored until all "
                f"are seen, {self._held / 2**30:,.1f} GiB so far; accepted: what fits in memory, "
                "by fewer or smaller images, or values='levels', which are resized at once"
            )

    def finish(self, white: int) -> tuple[dict[str, np.ndarray], int]:
        """The arrays of all splits, and how many levels they have; `white` is the type's."""
        if self.config.values == "levels":
            levels = self._levels_as_they_are()
        elif self._two_valued and self._highs:
            levels = self._binary_levels()
        else:
            levels = self._intensity_levels(self.config.maximum or white)
        dtype = dtype_of(levels)
        channels = max(image.shape[-1] for images in self._images.values() for image in images)
        arrays = {}
        for key, images in self._images.items():
            for i, image in enumerate(images):
                if image.shape[-1] != channels:  # one coloured image makes all RGB
                    images[i] = np.broadcast_to(image, (*image.shape[:2], channels))
            arrays[key] = np.stack(images).astype(dtype, copy=False)
            images.clear()
        return arrays, levels

    def _compare(self, image: np.ndarray) -> None:
        """ValueError for an image that does not go with the first."""
        config = self.config
        first_image = self._first_image = image if self._first_image is None else self._first_image
        channels = {image.shape[-1], first_image.shape[-1]}
        if config.grayscale and not channels <= {1, 3}:
            raise ValueError(
                f"grayscale is True, but {config.name} has {max(channels)} channels; accepted: "
                "1 or 3"
            )
        if len(channels) > 1 and channels != {1, 3}:
            few, many = sorted(channels)
            raise ValueError(
                f"images of {config.name} have {few} and {many} channels; accepted: one number of "
                "them, or 1 and 3"
            )
        if config.size is None and image.shape[:2] != first_image.shape[:2]:
            shapes = sorted((first_image.shape[:2], image.shape[:2]))
            raise ValueError(
                f"images of {config.name} have sizes {shapes[0]} and {shapes[1]}; accepted: one "
                "size, or a size to bring them to, size=(height, width) (--data.size)"
            )
        if (
            image.dtype != first_image.dtype
            and config.values == "intensity"
            and config.maximum is None
        ):
            raise ValueError(
                f"{config.name} has images of 8 bits and of 16 bits, which differ in white; "
                "accepted: one kind, or maximum set to what is white in both"
            )

    def _is_two_valued(self, image: np.ndarray, largest: int) -> bool:
        if largest == 0:
            return True
        white = self.config.maximum
        if largest not in ((1, 255, np.iinfo(image.dtype).max) if white is None else (white,)):
            return False
        self._highs.add(largest)
        return bool(np.count_nonzero(image) == np.count_nonzero(image == largest))

    def _levels_as_they_are(self) -> int:
        largest = max(self._largest.values())
        levels = self.config.levels or max(2, largest + 1)
        if largest >= levels:
            raise ValueError(
                f"levels is {levels}; accepted, for the largest value of {self.config.name}, "
                f"{largest}, with values='levels': {largest + 1} and more"
            )
        self.notes.append(f"values are levels as they are: {levels}, the largest value {largest}")
        return levels

    def _binary_levels(self) -> int:
        config, high = self.config, max(self._highs)
        if len(self._highs) > 1:
            raise ValueError(
                f"some images of {config.name} hold 0 and {min(self._highs)}, others 0 and {high}; "
                "accepted: one range for all, or values='levels' if these are levels"
            )
        stored = [image for images in self._images.values() for image in images]
        one_channel = all((image == image[..., :1]).all() for image in stored)
        if self.coloured and not one_channel:
            return self._intensity_levels(255)
        gray = config.grayscale and not one_channel and any(i.shape[-1] == 3 for i in stored)
        size = config.size is not None and any(image.shape[:2] != config.size for image in stored)
        levels = 256 if gray or size else 2
        mixed = f" of {levels} levels, its pixels being mixed" if levels > 2 else ""
        self.notes.append(f"every value is 0 or {high}: a binary set{mixed}")
        for images in self._images.values():
            for i, image in enumerate(images):
                bits = (image[..., :1] if one_channel else image) > 0
                images[i] = self._convert(bits.astype(np.uint8) * np.uint8(levels - 1))
        return levels

    def _intensity_levels(self, white: int) -> int:
        config, largest = self.config, max(self._largest.values())
        if self._two_valued:  # all is black, or colours that look like bits
            self._convert_all()
        if config.maximum is None and 1 in self._largest.values() and largest > 1:
            ranges = ", ".join(f"{key} 0 to {value}" for key, value in self._largest.items())
            raise ValueError(
                f"the splits of {config.name} differ in range ({ranges}); accepted: one range, or "
                "values='levels' if these are levels"
            )
        if largest > white:
            raise ValueError(
                f"maximum is {white}; accepted, for the largest value of {config.name}: {largest} "
                "and more"
            )
        if config.maximum is None and 0 < largest < (config.levels or 0) <= white:
            raise ValueError(
                f"levels is {config.levels}, which quantises intensities of 0 to {white}, but the "
                f"largest value of {config.name} is {largest}; accepted: values='levels' if they "
                "are levels, or maximum set to what is white"
            )
        note = f"values are intensities: 0 is black, {white} white, the largest value {largest}"
        if self.black:
            self.doubts.append("every value is 0")
        elif config.maximum is None and 2 * largest <= white:
            # Quantised or binarized, such a set loses what it has.
            lossy = config.levels is not None or config.binarize is not None
            kept = self.doubts if lossy or 8 * largest < white else self.notes
            remedy = "set values='levels' if they are levels, or maximum to what is white"
            kept.append(f"{note}; {remedy}")
        else:
            self.notes.append(note)
        return white + 1

    def _convert_all(self) -> None:
        self._two_valued = False
        for images in self._images.values():
            images[:] = map(self._convert, images)

    def _convert(self, image: np.ndarray) -> np.ndarray:
        size = self.config.size
        if self.config.grayscale and image.shape[-1] == 3:
            image = np.rint(image @ _LUMA)[..., None].astype(image.dtype)
        if size is None or image.shape[:2] == size:
            return image
        return _resize(image, size, nearest=self.config.values == "levels")


def dtype_of(levels: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if levels <= 256 else np.uint16


def _resize(image: np.ndarray, size: tuple[int, int], nearest: bool) -> np.ndarray:
    height, width = size
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    channels = [
        np.asarray(Image.fromarray(channel.astype(np.float32)).resize((width, height), method))
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.rint(np.stack(channels, axis=-1)).astype(image.dtype)
