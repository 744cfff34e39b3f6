"""The `gen_jax` command, outside of the package: importing that takes seconds.

From its first line on Ctrl-C is answered in words.
"""

import os
import signal
import sys
from typing import Any


def say_and_leave(number: int, frame: Any) -> None:
    """Ctrl-C while a script imports: nothing is begun yet, and a traceback says nothing."""
    del frame
    os.write(2, b"error: interrupted\n")
    os._exit(128 + number)


def answer_interrupts() -> None:
    """Until the script's own handlers are there."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, say_and_leave)


def main() -> None:
    """The console script."""
    answer_interrupts()
    from gen_jax.scripts import command

    command.run(sys.argv[1:])
