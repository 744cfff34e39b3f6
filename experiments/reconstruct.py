"""`python -m experiments.reconstruct` is `gen_jax reconstruct`."""

import sys

from gen_jax.scripts import cli
from gen_jax.scripts.reconstruct import main

if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
