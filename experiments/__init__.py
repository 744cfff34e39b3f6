"""The scripts: `python -m experiments.NAME`."""

import os
import signal
import sys
from typing import Any


def say_and_leave(number: int, frame: Any) -> None:
    """Ctrl-C while a script imports: nothing is begun yet, and a traceback says nothing."""
    del frame
    os.write(2, b"error: interrupted\n")
    os._exit(128 + number)


# Python's name of a script while the package that holds it is imported: nobody else's import.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, say_and_leave)
