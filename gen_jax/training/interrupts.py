"""Signals that ask a run to stop: SIGTERM, Ctrl-C and SIGHUP save and return."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import jax
from jax.experimental import multihost_utils

T = TypeVar("T")


class Interrupted(Exception):
    """A signal asked the run to stop."""


class Interrupt:
    """Whether a signal came, and which."""

    number: int | None = None
    _received: int = signal.SIGTERM
    _asked: int | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        name = signal.Signals(self.number or signal.SIGTERM).name
        return "Ctrl-C" if name == "SIGINT" else name

    def take(self, number: int) -> None:
        """A signal has come."""
        if jax.process_count() > 1:
            self._received = number
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.number = number

    def reached(self, step: int) -> bool:
        """Whether to save and stop after `step`; all processes agree on the step."""
        if jax.process_count() == 1:
            return self.number is not None
        if self.number is None and self._asked != step:
            self._asked = step
            if multihost_utils.reached_preemption_sync_point(step):
                self.number = self._received
        return self.number is not None

    def guard(self, batches: Iterable[T]) -> Iterator[T]:
        """`batches`, until a signal comes: a long validation must not outlast the grace."""
        for batch in batches:
            if self.number is not None:
                raise Interrupted
            yield batch


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupt]:
    """Takes the signals while the run goes on; a second one acts as it always does.

    Python handles signals in the main thread only. With several processes JAX takes SIGTERM
    itself, so that all of them stop after the same step: the others are handed on to it.
    What is ignored (under nohup, say) stays ignored.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def handle(number: int, frame: Any) -> None:
        del frame
        signal.signal(number, signal.SIG_DFL)
        interrupt.take(number)

    numbers = [signal.SIGINT, signal.SIGHUP] + ([] if jax.process_count() > 1 else [signal.SIGTERM])
    previous = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in previous:
        signal.signal(number, handle)
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
