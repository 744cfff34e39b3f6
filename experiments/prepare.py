"""`python -m experiments.prepare` is `gen_jax prepare`."""

import sys

from gen_jax.scripts import cli
from gen_jax.scripts.prepare import main

if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
