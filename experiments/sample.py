"""`python -m experiments.sample` is `gen_jax sample`."""

import sys

from gen_jax.scripts import cli
from gen_jax.scripts.sample import main

if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
