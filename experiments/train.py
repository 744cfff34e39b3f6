"""`python -m experiments.train` is `gen_jax train`."""

import sys

from gen_jax.scripts import cli
from gen_jax.scripts.train import main

if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
