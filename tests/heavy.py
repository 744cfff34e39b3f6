"""The dependencies that `import gen_jax`, and loading a model, do without."""

# `rich` is not here: flax.linen imports it.
HEAVY = [
    "optax",
    "orbax",
    "tensorflow",
    "tensorflow_datasets",
    "grain",
    "array_record",
    "tensorstore",
    "matplotlib",
    "sklearn",
    "scipy",
    "tyro",
    "tensorboardX",
    "PIL",
    "constriction",
]
