"""Training steps, as figures of `experiments.benchmarks.accelerator`."""

from typing import Any

import jax
import numpy as np

from experiments.benchmarks import timing
from experiments.benchmarks.accelerator_figure import Call, Figure, Setting, about
from gen_jax import training
from gen_jax.scripts import runs
from gen_jax.scripts.presets import find
from gen_jax.training.devices import compile_train_step, create_state, put_batch

_STEPS = 10  # sent to the device one after another, as training does, and waited for together


def training_step(setting: Setting, preset: str, largest: int | None = None) -> Figure:
    """Steps of a preset at its batch size, or at `largest`; at half of it, … until it fits."""
    experiment: Any = find(preset)
    model = experiment.model.adapted(experiment.model.image_shape, 1)
    wanted = largest or experiment.training.batch_size
    mesh = training.make_mesh(jax.devices()[:1])
    step: Any = compile_train_step(
        mesh,
        model=model,
        objective=experiment.objective,
        optimizer=experiment.training.optimizer,
        num_steps=1000,
        precision=setting.precision,
    )
    key = jax.random.key(0)

    def inputs(batch: int) -> Any:
        images = np.random.RandomState(0).randint(
            model.likelihood.levels, size=(batch, *model.image_shape), dtype=np.int32
        )
        labels = runs.labels_for(model, batch, None)
        arrays = {"images": images} | ({} if labels is None else {"labels": labels})
        return put_batch(arrays, mesh)

    def new_state() -> Any:
        return create_state(model, experiment.training.optimizer, 1000, key, mesh)

    def prepare() -> Call:
        state: Any = jax.eval_shape(new_state)
        batch = wanted
        while True:
            traced = step.trace(state, inputs(batch), key)
            compiled, compiling = timing.timed(traced.lower().compile)
            if batch == 1 or fits(compiled):
                break
            batch //= 2
        flops = timing.jaxpr_flops(traced.jaxpr.jaxpr)

        def measure() -> dict[str, Any]:
            held = [new_state()]
            arrays = inputs(batch)

            def steps() -> Any:
                for _ in range(_STEPS):
                    held[0], metrics = compiled(held[0], arrays, key)
                return metrics

            seconds = timing.median_seconds(steps, setting.repeats) / _STEPS
            counted = compiled.cost_analysis() or {}
            return {
                "batch": batch,
                "seconds": seconds,
                "images_per_second": batch / seconds,
                "tflops": flops / seconds / 1e12,
                # XLA counts the body of a loop once, and nothing inside a library's kernel.
                "xla_tflops": counted.get("flops", 0.0) / seconds / 1e12,
                "compile_seconds": compiling,
            }

        return measure

    return Figure(about("training", preset, model, wanted, "step"), prepare)


def fits(compiled: Any) -> bool:
    """Whether a program's arguments, results and temporaries fit the memory of its device."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit is None:
        return True
    analysis = compiled.memory_analysis()
    needed = analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    needed += analysis.temp_size_in_bytes - analysis.alias_size_in_bytes
    return needed < 0.9 * limit
