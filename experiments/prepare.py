"""Downloads a TFDS image set and writes it as array_record, which gen_jax reads: needs TensorFlow.

python -m experiments.prepare mnist
"""

import sys
from typing import Annotated

import tyro

from gen_jax import data_sources


def main(
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")],
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None,
) -> int:
    """Prepare a data set by its own TFDS builder, which needs `pip install 'gen_jax[prepare]'`.

    Args:
        name: A TFDS name, such as mnist, cifar10 or binarized_mnist.
        data_dir: Where to write; else $TFDS_DATA_DIR; else ~/tensorflow_datasets.
    """
    try:
        print(data_sources.prepare(name, data_dir))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main, prog="python -m experiments.prepare"))
