"""`python -m experiments.demo` is `gen_jax demo`."""

import sys

from gen_jax.scripts import cli
from gen_jax.scripts.demo import main

if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
