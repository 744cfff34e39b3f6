"""Signals are answered at once, or stay ignored."""

import hashlib
import os
import signal
import threading

import pytest

from gen_jax.training import interrupts as interrupts_file

pytestmark = pytest.mark.usefixtures("as_from_a_terminal")


def test_a_signal_while_something_compiles_is_answered_at_once(monkeypatch):
    monkeypatch.setattr(interrupts_file, "_PATIENCE", 0.01)
    said = []
    with interrupts_file.interrupts(said.append) as interrupt:
        sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        sender.start()
        # Like a compiler it lets other threads run, and Python handle no signal.
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)
    assert interrupt.number == signal.SIGINT
    assert len(said) == 1
    assert said[0].startswith("Ctrl-C: stopping once this is compiled")


def test_ignored_signals_stay_ignored():
    """As nohup asks for."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts_file.interrupts():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)
