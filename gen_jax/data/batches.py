"""The order in which training sees a data set, and evaluation.

A set is in memory, and Grain carries the position: element b of the pipeline is batch number b,
computed from (seed, b) alone. Items carried one by one through Grain's own shuffle and batch cost
10 microseconds each, ten times more than all the rest.
"""

import dataclasses
import functools
from collections.abc import Iterator

import grain
import numpy as np

from gen_jax import checks
from gen_jax.data.config import check_seed
from gen_jax.data.datasets import Dataset, Split
from gen_jax.data.noise import augment, bernoulli


def train_iterator(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator[dict[str, np.ndarray]]:
    """Endless batches `{"images", "indices", "labels"?}` of the training split, with `get_state`.

    `indices` are the images' numbers in the split; `set_state` goes to a position once got.

    Every epoch is a new permutation, and the next one follows within the batch. `batch_size` is
    global: of the same order, each process gets its own `batch_size // process_count` examples.
    """
    share = _share(batch_size, process_index, process_count)
    check_seed(seed)
    size, labels = len(dataset.train), dataset.train.labels

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.random.RandomState([seed, epoch]).permutation(size)

    def batch(number: int) -> dict[str, np.ndarray]:
        positions = number * batch_size + np.arange(share.start, share.stop)
        epochs, start = positions // size, int(positions[0])
        index = np.concatenate(
            [order(int(epoch))[positions[epochs == epoch] % size] for epoch in np.unique(epochs)]
        )
        stored = dataset.train.images if dataset.intensities is None else dataset.intensities
        images = stored[index]
        if dataset.flip or dataset.shift:
            images = augment(images, dataset.flip, dataset.shift, seed, start)
        if dataset.intensity_levels is not None:
            images = bernoulli(images, dataset.intensity_levels - 1, seed, "dynamic", start)
        items = {"images": images, "indices": index.astype(np.int32)}
        return items if labels is None else {**items, "labels": labels[index]}

    # All is in memory: threads would only contend for the interpreter's lock.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(grain.MapDataset.range(2**40).map(batch).to_iter_dataset(options))


def eval_batches(
    split: Split, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> "EvalBatches":
    """Every example of a split once, in order: see `EvalBatches`."""
    _share(batch_size, process_index, process_count)
    return EvalBatches(split, batch_size, process_index, process_count)


@dataclasses.dataclass(frozen=True)
class EvalBatches:
    """Batches `{"images", "labels"?, "mask"}`; iterate as often as you like, `len` counts them.

    The last one is padded with level 0 and label 0 to the batch size, where `mask` is False. Of
    `process_count` processes each gets its own `batch_size // process_count` examples.
    """

    split: Split
    batch_size: int
    process_index: int = 0
    process_count: int = 1

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        share = _share(self.batch_size, self.process_index, self.process_count)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            own = slice(start + share.start, start + share.stop)
            batch = {"images": self.split.images[own]}
            if self.split.labels is not None:
                batch["labels"] = self.split.labels[own]
            batch["mask"] = np.ones(len(batch["images"]), bool)
            yield {key: _pad(value, len(share)) for key, value in batch.items()}


def _share(batch_size: int, process_index: int, process_count: int) -> range:
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size is {batch_size}; accepted: positive multiples of the number of processes, "
            f"{process_count}"
        )
    checks.whole("process_index", process_index, 0, process_count - 1)
    size = batch_size // process_count
    return range(process_index * size, (process_index + 1) * size)


def _pad(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1))
