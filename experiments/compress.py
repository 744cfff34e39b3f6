"""`python -m experiments.compress` is `gen_jax compress`."""

import sys

from gen_jax.scripts import cli
from gen_jax.scripts.compress import main

if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
