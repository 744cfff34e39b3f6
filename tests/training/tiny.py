"""A run small enough to be trained, killed and resumed in seconds; also a script."""

import io
import os
import sys
import time

import grain
import jax
import numpy as np
from rich.console import Console

from gen_jax import likelihoods, models, training
from gen_jax.training.devices import abstract_state, compile_train_step
from gen_jax.training.workdir import Workdir
from tests.compilation import compile_quickly

SHAPE = (4, 4, 1)
MODEL = models.GatedPixelCNN(
    image_shape=SHAPE,
    likelihood=likelihoods.Bernoulli(),
    features=4,
    num_layers=1,
    first_kernel_size=3,
    dropout=0.2,
)
OPTIMIZER = training.OptimizerConfig(learning_rate=1e-2, warmup_steps=5, weight_decay=0.01)
CONFIG = training.TrainConfig(
    steps=20,
    batch_size=8,
    eval_every=5,
    eval_batch_size=8,
    log_every=1,
    sample_every=1,
    optimizer=OPTIMIZER,
)
DATA = {"name": "stripes", "fingerprint": "1"}


def with_value(config, name, value):
    """What a type checker would not let by."""
    object.__setattr__(config, name, value)
    return config


def make_images(count=43, seed=0):
    """Noisy horizontal stripes: something to learn within a few steps."""
    rng = np.random.default_rng(seed)
    stripes = rng.integers(0, 2, (count, 4, 1, 1)) ^ (rng.random((count, *SHAPE)) < 0.05)
    return stripes.astype(np.uint8)


AT_ONCE = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)


def batches(batch_size=8, seed=0, numbered=False, options=AT_ONCE):
    """Grain's own options read 500 batches ahead in 16 threads."""
    images = make_images()
    dataset = grain.MapDataset.range(len(images)).shuffle(seed=seed).repeat()

    def item(i):
        return {"images": images[i]} | ({"indices": np.int32(i)} if numbered else {})

    return iter(dataset.map(item).batch(batch_size).to_iter_dataset(options))


def evaluation(batch_size=8, count=21):
    """Batches with the last one padded and masked."""
    images = make_images(count, seed=1)
    for start in range(0, count, batch_size):
        rows = images[start : start + batch_size]
        padding = np.ones((batch_size - len(rows), *SHAPE), np.uint8)
        mask = np.arange(batch_size) < len(rows)
        yield {"images": np.concatenate([rows, padding]), "mask": mask}


def train(workdir, config=CONFIG, **kwargs):
    """Trains the tiny run on one device, quietly unless told otherwise."""
    kwargs = {
        "model": MODEL,
        "batches": batches(),
        "evaluation": evaluation,
        "data": DATA,
        "mesh": training.make_mesh(jax.devices()[:1]),
        "console": Console(file=io.StringIO()),
    } | kwargs
    return training.train(config=config, workdir=workdir, **kwargs)


def signalled(number, at):
    """An on_sample that sends this process a signal at a step."""

    def send(step, variables):
        del variables
        if step == at:
            os.kill(os.getpid(), number)

    return send


def compiled(config):
    """The step function of `train`."""
    return compile_train_step(
        training.make_mesh(jax.devices()[:1]),
        model=MODEL,
        objective=training.LogLikelihood(),
        optimizer=config.optimizer,
        num_steps=config.steps,
        accumulate=config.accumulate,
        precision=config.precision,
    )


def read_leaves(workdir, config=CONFIG, model=MODEL, devices=1):
    """Every leaf of the last checkpoint, and the position in the data."""
    mesh = training.make_mesh(jax.devices()[:devices])
    abstract = abstract_state(model, config.optimizer, config.steps, mesh)
    position = batches()
    with training.Checkpoints(Workdir(workdir)) as checkpoints:
        state = checkpoints.restore(abstract, position)
    return jax.device_get(jax.tree.leaves(state)), position.get_state()


def assert_equal_runs(first, second, config=CONFIG, model=MODEL):
    (leaves, position), (others, other) = (
        read_leaves(workdir, config, model) for workdir in (first, second)
    )
    assert position == other
    for leaf, same in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(leaf, same)


if __name__ == "__main__":
    compile_quickly()  # the same programs as in the tests: the same bits

    def report(step, variables):
        del variables
        print(f"reached {step}", flush=True)
        time.sleep(0.02)

    sys.exit(128 + (train(sys.argv[1], console=Console(), on_sample=report).signal or -128))
