"""A process of a job whose peers are gone ends with one line."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import jax
import pytest

from gen_jax.scripts import cli
from gen_jax.training import runtime_log

PEER = (
    b"E1128 09:37:39.173651   27776 coordination_service.cc:1549] [1] UNAVAILABLE: unhealthy:\n1\n"
)
FATAL = (
    b"F1128 09:37:39.174162   27793 client.h:80] Terminating process because the JAX distributed "
    b"service detected fatal errors.\n*** Check failure stack trace: ***\n    @     0x7fb448\n"
)
OTHER = b"W1128 09:37:39.174162   27793 slow_compile.cc:80] Compiling takes long\n"
CHECK = b"F1128 09:37:39.174162   27793 tfrt_cpu_pjrt_client.h:80] Check failed: x == y\n"
LINE = (
    "error: another process of this job has ended{}: the same command, in all of them, goes on "
    "from the last checkpoint\n"
)
LOAD = (
    "import importlib.util, os, sys, time;"
    f"spec = importlib.util.spec_from_file_location('log', {runtime_log.__file__!r});"
    "log = importlib.util.module_from_spec(spec); spec.loader.exec_module(log); log.install();"
)


def stderr_of(program: str) -> tuple[str, int]:
    result = subprocess.run([sys.executable, "-c", LOAD + program], capture_output=True, timeout=60)
    return result.stderr.decode(), result.returncode


@pytest.mark.parametrize(
    ("program", "shown", "status"),
    [
        # Aborted by the runtime, which says which peer it misses.
        (f"os.write(2, {PEER + FATAL!r}); os.abort()", LINE.format(" (number 1)"), -signal.SIGABRT),
        # A collective fails first, and the runtime aborts all the same.
        (
            "log.end_without_peers(RuntimeError('Gloo all-reduce failed'))",
            LINE.format("").replace("\n", " (Gloo all-reduce failed)\n"),
            1,
        ),
        (
            f"os.write(2, {FATAL!r}); log.end_without_peers(RuntimeError('Gloo failed'))",
            LINE.format(""),
            1,
        ),
        # A mistake of the user's in this process: its line, and nothing of the others it leaves.
        (
            f"print('mine', file=sys.stderr); log.leave(2); os.write(2, {PEER + FATAL!r})",
            "mine\n",
            0,
        ),
        # Fatal for another reason, and lines of others while something is held back.
        (
            f"os.write(2, {CHECK!r}); os.abort()",
            CHECK.decode(),
            -signal.SIGABRT,
        ),
        (
            f"log._HELD = 0.1; os.write(2, {PEER!r}); time.sleep(0.5); os.write(2, b'mine\\n');"
            "time.sleep(0.5); os.write(2, b'last')",
            PEER.decode() + "mine\nlast",
            0,
        ),
        # Nothing fatal: all is shown.
        (
            f"os.write(2, {OTHER!r}); os.write(2, {PEER!r}); os.write(2, b'other')",
            (OTHER + PEER + b"other").decode(),
            0,
        ),
    ],
)
def test_of_the_log_of_an_end_without_peers_one_line_is_shown(program, shown, status):
    assert stderr_of(program) == (shown, status)


def test_who_cannot_wait_for_the_others_leaves_with_its_own_status():
    assert stderr_of("log._PATIENCE = 0.1; log.leave(2); time.sleep(60)") == ("", 2)


def test_a_script_ends_so_where_a_collective_fails(monkeypatch):
    ended = []
    monkeypatch.setattr(runtime_log, "_installed", True)
    monkeypatch.setattr(runtime_log, "end_without_peers", lambda error: ended.append(str(error)))
    monkeypatch.setattr(runtime_log, "leave", lambda status: None)

    def fails(message):
        raise jax.errors.JaxRuntimeError(message)

    with contextlib.suppress(jax.errors.JaxRuntimeError):
        cli.run(fails, "FAILED_PRECONDITION: Gloo all-reduce failed: Connection closed by peer")
    with pytest.raises(jax.errors.JaxRuntimeError):
        cli.run(fails, "INTERNAL: of another kind")
    assert len(ended) == 1


def test_a_failed_collective_is_no_lost_peer_where_there_are_none():
    assert not runtime_log.of_a_lost_peer(RuntimeError("Gloo all-reduce failed"))


def test_a_process_whose_first_one_is_killed_ends_with_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = (
        "from gen_jax import training; training.initialize_distributed();"
        "print('joined', flush=True); import time; time.sleep(120)"
    )
    job = {
        "JAX_COORDINATOR_ADDRESS": address,
        "OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:1",
        "OMPI_COMM_WORLD_SIZE": "2",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ
            | job
            | {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "joined\n"
        processes[0].kill()
        # The runtime does not always say which.
        said = processes[1].communicate(timeout=60)[1]
        assert said in (LINE.format(" (number 0)"), LINE.format(""))
        assert processes[1].returncode != 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
