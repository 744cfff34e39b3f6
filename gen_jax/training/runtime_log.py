"""What JAX's runtime logs as another process of the job dies: pages of C++, said here in one line.

The runtime ends a process whose peers are gone by aborting it, where no Python runs any more. So
another process, this file as a script, reads what it wrote until then. Nothing but the standard
library is imported.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading

_QUIET = b"\0"
# absl's prefix: severity, date, time, thread, file and line.
_LOGGED = re.compile(rb"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w.]+):\d+\] ")
_ABOUT_PEERS = re.compile(rb"coordination|distributed|preemption|client\.h")
_TASK = re.compile(r"[Tt]ask:? (\d+)|unhealthy[^\n]*:\s*(\d+)")
# What collectives and barriers say where a peer is missing.
_MISSING = re.compile(r"(?i)gloo|nccl|heartbeat|coordination|barrier|unavailable|aborted|deadline")
_PATIENCE = 10.0

_installed = False


def install() -> None:
    """From here on the runtime's log comes through `_filter`; Python's stderr stays where it is."""
    global _installed
    if _installed:
        return
    reader, writer = os.pipe()
    command = [sys.executable, "-I", "-S", __file__]
    reading = subprocess.Popen(command, stdin=reader, stdout=subprocess.DEVNULL)
    reading.returncode = 0  # it outlives this process, which never waits for it
    with contextlib.suppress(AttributeError, OSError):  # none, or one that is no file
        if sys.stderr.fileno() == 2:
            form = {"encoding": sys.stderr.encoding, "errors": sys.stderr.errors}
            sys.stderr.flush()
            sys.stderr = os.fdopen(os.dup(2), "w", 1, **form)
    os.dup2(writer, 2)
    os.close(reader)
    os.close(writer)
    _installed = True


def of_a_lost_peer(error: Exception) -> bool:
    """Whether a collective failed, in a job of several processes, as they do without a peer."""
    return _installed and bool(_MISSING.search(str(error)))


def end_without_peers(error: Exception) -> None:
    """Says so, unless the runtime has already, and ends this process: it cannot wait for them."""
    os.write(2, _QUIET + _lost(str(error)))
    os._exit(1)


def leave(status: int) -> None:
    """This process, which has said why, ends: together with the others, or soon without them."""
    if _installed:
        os.write(2, _QUIET + b"\n")
        waiting = threading.Timer(_PATIENCE, os._exit, [status])
        waiting.daemon = True
        waiting.start()


def _lost(log: str) -> bytes:
    task = _TASK.search(log)
    which = f" (number {task[1] or task[2]})" if task else ""
    line = (
        f"error: another process of this job has ended{which}: the same command, in all of them, "
        "goes on from the last checkpoint"
    )
    return line.encode() + b"\n"


def _filter() -> None:
    """Copies stdin to stderr, up to the one line that says why the process ends.

    What the runtime logs of peers is held back: it is shown if nothing fatal follows.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # as long as its writer lives
    held: list[bytes] = []
    holding = False
    for line in sys.stdin.buffer:
        if _QUIET in line:
            held = [line.partition(_QUIET)[2].removeprefix(b"\n")]
            break
        logged = _LOGGED.search(line)
        if logged:
            holding = bool(_ABOUT_PEERS.search(logged[2]))
        if not holding:
            os.write(2, line)
            continue
        held.append(line)
        if logged and logged[1] == b"F":
            held = [_lost(b"".join(held).decode(errors="replace"))]
            break
    os.write(2, b"".join(held))
    while sys.stdin.buffer.read(65536):  # a full pipe would stop the writer
        pass


if __name__ == "__main__":
    _filter()
