"""What JAX's runtime logs as another process of the job dies: pages of C++, said here in one line.

The runtime ends a process whose peers are gone by aborting it, where no Python runs any more. So
another process, this file as a script, reads what it wrote until then. Nothing but the standard
library is imported.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading

_END = b"\0gen_jax ends\0"
# absl's prefix: severity, date, time, thread, file and line.
_LOGGED = re.compile(rb"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w.]+):\d+\] ")
_ABOUT_PEERS = re.compile(rb"coordination_|distributed_runtime_|preemption_|client\.h$")
_TASK = re.compile(r"[Tt]ask:? (\d+)|unhealthy[^\n]*:\s*(\d+)")
# What collectives and barriers say where a peer is missing.
_MISSING = re.compile(r"(?i)gloo|nccl|heartbeat|coordination|barrier|unavailable|aborted|deadline")
_PATIENCE = 10.0
_HELD = 1.0  # seconds that what may come before an end is held back

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
    with contextlib.suppress(OSError):
        os.write(2, _END + _lost(str(error), " ".join(str(error).split())[:200]))
    os._exit(1)


def leave(status: int) -> None:
    """This process, which has said why, ends: together with the others, or soon without them."""
    if _installed:
        with contextlib.suppress(OSError):
            os.write(2, _END + b"\n")
        waiting = threading.Timer(_PATIENCE, os._exit, [status])
        waiting.daemon = True
        waiting.start()


def _lost(log: str, cause: str = "") -> bytes:
    task = _TASK.search(log)
    which = f" (number {task[1] or task[2]})" if task else ""
    line = (
        f"error: another process of this job has ended{which}: the same command, in all of them, "
        f"goes on from the last checkpoint{f' ({cause})' if cause else ''}"
    )
    return line.encode() + b"\n"


def _filter() -> None:
    """Copies stdin to stderr, up to the one line that says why the process ends.

    What the runtime logs of peers is held back for a moment: it is shown if nothing fatal follows.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # as long as its writer lives
    held, rest, holding, last = b"", b"", False, b""
    while not last:
        if not select.select([0], [], [], _HELD if held else None)[0]:
            os.write(2, held)
            held, holding = b"", False
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            os.write(2, held + rest)
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if _END in line:
                last = line.partition(_END)[2] + b"\n"
                break
            logged = _LOGGED.search(line)
            if logged:
                holding = bool(_ABOUT_PEERS.match(logged[2]))
            if not holding:
                os.write(2, line + b"\n")
                continue
            held += line + b"\n"
            if logged and logged[1] == b"F":
                last = _lost(held.decode(errors="replace"))
                break
    os.write(2, last.removeprefix(b"\n"))
    while os.read(0, 65536):  # a full pipe would stop the writer
        pass


if __name__ == "__main__":
    _filter()
