"""`python -m experiments.publish` is `gen_jax publish`."""

import sys

from gen_jax.scripts import cli
from gen_jax.scripts.publish import main

if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
