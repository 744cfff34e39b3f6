"""`python -m experiments.decompress` is `gen_jax decompress`."""

import sys

from gen_jax.scripts import cli
from gen_jax.scripts.decompress import main

if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
