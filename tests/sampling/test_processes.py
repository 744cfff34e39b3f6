"""Two processes of four devices each draw, score and learn as one device; also their script."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from gen_jax import sampling, training
from gen_jax.training.devices import compile_train_step, create_state, put_batch
from tests.cases import make, perturbed
from tests.compilation import compile_quickly

METHODS = ("scan", "block_fixed_point")


def draw(mesh=None):
    """On the host: eight images by each method, the passes, what the images are worth, and the
    parameters after two steps of training on them."""
    model = make("GatedPixelCNN", "bernoulli", num_layers=1)
    # On one device for good, as `gen_jax.load` gives them.
    variables = jax.device_put(perturbed(model), jax.local_devices()[0])
    request = sampling.to_sample(model, variables, jax.random.key(7), 8)
    found = {}
    for method in METHODS:
        result = training.devices.to_host(sampling.run(model, request, method=method, mesh=mesh))
        found[method], found[f"{method}_passes"] = result
    mesh = training.make_mesh(jax.devices()[:1]) if mesh is None else mesh
    start, count = 8 // jax.process_count() * jax.process_index(), 8 // jax.process_count()
    batch = {"images": found["scan"][start : start + count], "mask": np.ones(count, bool)}
    objective, key = training.LogLikelihood(dropout=False), jax.random.key(0)
    found["nats"] = training.score(model, variables["params"], [batch], key, objective, mesh).nats
    trained = train(model, {"images": batch["images"]}, mesh)
    return found | {f"trained {i}": leaf for i, leaf in enumerate(jax.tree.leaves(trained))}


def train(model, batch, mesh):
    """The parameters after two steps, each process giving its part of the batch."""
    model = model.clone(dropout=0.5)
    optimizer = training.OptimizerConfig(learning_rate=1e-2, warmup_steps=0)
    step = compile_train_step(
        mesh,
        model=model,
        objective=training.LOG_LIKELIHOOD,
        optimizer=optimizer,
        num_steps=2,
    )
    state = create_state(model, optimizer, 2, jax.random.key(0), mesh)
    for _ in range(2):
        state, _ = step(state, put_batch(batch, mesh), jax.random.key(1))
    return jax.device_get(jax.tree.map(lambda x: x.addressable_data(0), state.params))


def test_two_processes_of_four_devices_are_one(tmp_path):
    """Over a mesh of all eight: images by both methods that go block by block, scores, training."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = "--xla_force_host_platform_device_count=4"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.sampling.test_processes", address, rank, tmp_path],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    alone = draw()
    for rank in (0, 1):
        found = np.load(tmp_path / f"{rank}.npz")
        assert found["devices"] == 8
        for method in METHODS:
            np.testing.assert_array_equal(found[method], alone[method])
        np.testing.assert_allclose(found["nats"], alone["nats"], rtol=1e-5)
        # Each device goes on until its own image is settled.
        passes = found["block_fixed_point_passes"]
        assert 4 <= passes <= alone["block_fixed_point_passes"]
        trained = [name for name in alone if name.startswith("trained")]
        assert len(trained) > 5
        for name in trained:
            np.testing.assert_allclose(found[name], alone[name], rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    address, rank, folder = sys.argv[1:]
    jax.distributed.initialize(address, num_processes=2, process_id=int(rank))
    compile_quickly()  # the same programs as in the test: the same bits
    mesh = training.make_mesh()
    np.savez(f"{folder}/{rank}.npz", devices=mesh.size, **draw(mesh))
