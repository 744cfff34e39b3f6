"""`python -m experiments.evaluate` is `gen_jax evaluate`."""

import sys

from gen_jax.scripts import cli
from gen_jax.scripts.evaluate import main

if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
