"""Downloads a TFDS image set and writes it as array_record, which gen_jax reads: needs TensorFlow.

python -m experiments.prepare mnist
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from experiments import cli
from gen_jax import data


@dataclasses.dataclass(frozen=True)
class Options:
    """Prepare a data set by its own TFDS builder, which needs `pip install 'gen_jax[prepare]'`."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """A TFDS name, such as mnist, cifar10 or binarized_mnist."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where to write; else $TFDS_DATA_DIR; else ~/tensorflow_datasets."""


def main(arguments: Sequence[str]) -> None:
    """Parses, prepares, and says where the set is."""
    options = cli.parse(Options, "prepare", arguments)
    print(data.prepare(options.name, options.data_dir))


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
