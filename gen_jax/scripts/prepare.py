"""Downloads a TFDS image set and writes it as array_record, which gen_jax reads: needs TensorFlow.

gen_jax prepare mnist
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from gen_jax import data
from gen_jax.scripts import cli


@dataclasses.dataclass(frozen=True)
class Options:
    """Prepare a data set by its own TFDS builder, which needs `pip install 'gen_jax[prepare]'`."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """A TFDS name, such as mnist, cifar10 or binarized_mnist."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where to write; else $TFDS_DATA_DIR; else ~/tensorflow_datasets."""


def main(arguments: Sequence[str]) -> None:
    """Parses, prepares, and says where the set is."""
    options = cli.parse(Options, "gen_jax prepare", arguments)
    print(data.prepare(options.name, options.data_dir))
