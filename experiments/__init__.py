"""`python -m experiments.NAME`: the commands of `gen_jax NAME`; and `experiments.benchmarks`."""

import sys

import gen_jax_command

# Python's name of a script while the package that holds it is imported: nobody else's import.
if sys.argv[0] == "-m":
    gen_jax_command.answer_interrupts()
