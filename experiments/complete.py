"""`python -m experiments.complete` is `gen_jax complete`."""

import sys

from gen_jax.scripts import cli
from gen_jax.scripts.complete import main

if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
