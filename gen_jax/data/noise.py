"""What is drawn for an image: its bits, whether it is mirrored, how far it is moved.

The noise of image i of a stream is the counter's own stretch of Philox, whose stream NumPy
guarantees: the same bits whatever the batch size, the process or the version.
"""

import numpy as np

_CHUNK = 1024
_STREAMS = {"train": 0, "validation": 1, "test": 2, "dynamic": 3, "augment": 4}


def bernoulli(
    intensities: np.ndarray, maximum: int, seed: int, stream: str, start: int = 0
) -> np.ndarray:
    """0 or 1 with probability intensity / maximum."""
    count, *shape = intensities.shape
    pixels = int(np.prod(shape))
    blocks = -(-pixels // 8)  # of Philox: four 64-bit words, eight uniforms of 32 bits
    result = np.empty(intensities.shape, np.uint8)
    for begin in range(0, count, _CHUNK):
        chunk = intensities[begin : begin + _CHUNK]
        words = _words(seed, stream, (start + begin) * blocks, len(chunk) * blocks)
        bits = words.view(np.uint32).reshape(len(chunk), blocks * 8)[:, :pixels]
        # 24 bits are exact in float32, and below 1: an intensity of 0 never draws 1, the maximum
        # never 0.
        uniform = (bits >> 8).astype(np.float32) * np.float32(2**-24)
        probability = chunk.astype(np.float32) / np.float32(maximum)
        result[begin : begin + _CHUNK] = uniform.reshape(chunk.shape) < probability
    return result


def augment(images: np.ndarray, flip: bool, shift: int, seed: int, start: int) -> np.ndarray:
    """Each image mirrored left to right with probability 1/2 (`flip`), then moved by up to `shift`
    pixels each way; the edge is repeated where the image has moved away from it."""
    count, height, width, _ = images.shape
    words = _words(seed, "augment", start, count).reshape(count, 4)
    down, right = ((words[:, 1:3] % np.uint64(2 * shift + 1)).astype(np.int64) - shift).T
    rows = np.clip(np.arange(height) - down[:, None], 0, height - 1)
    columns = np.clip(np.arange(width) - right[:, None], 0, width - 1)
    if flip:
        mirrored = words[:, :1] >> np.uint64(63) == 1
        columns = np.where(mirrored, width - 1 - columns, columns)
    return images[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _words(seed: int, stream: str, block: int, blocks: int) -> np.ndarray:
    """Four 64-bit words of each of `blocks` of a stream, from the number `block` on."""
    philox = np.random.Philox(key=[seed, _STREAMS[stream]], counter=block)
    return np.asarray(philox.random_raw(blocks * 4))
