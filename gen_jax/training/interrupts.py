"""Signals that ask a run to stop: SIGTERM, Ctrl-C and SIGHUP save and return."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

T = TypeVar("T")

_PATIENCE = 1.0


class Interrupted(Exception):
    """A signal asked the run to stop."""


class Interrupt:
    """Whether a signal came, and which."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.noticed = threading.Event()
        """The run has looked, and stops."""
        self._received = int(signal.SIGTERM)
        self._asked: int | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        return _name(self.number or signal.SIGTERM)

    def take(self, number: int) -> None:
        """A signal has come."""
        if jax.process_count() > 1:
            self._received = number
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.number = number

    def reached(self, step: int) -> bool:
        """Whether to save and stop after `step`; all processes agree on the step."""
        if jax.process_count() > 1 and self.number is None and self._asked != step:
            self._asked = step
            if multihost_utils.reached_preemption_sync_point(step):
                self.number = self._received
        return self._stops()

    def guard(self, batches: Iterable[T]) -> Iterator[T]:
        """`batches`, until a signal comes: a long validation must not outlast the grace."""
        for batch in batches:
            if self._stops():
                raise Interrupted
            yield batch

    def _stops(self) -> bool:
        if self.number is not None:
            self.noticed.set()
        return self.number is not None


@contextlib.contextmanager
def interrupts(say: Callable[[str], None] = print) -> Iterator[Interrupt]:
    """Takes the signals while the run goes on; a second one ends it at once, unsaved.

    Python handles signals in the main thread only. With several processes JAX takes SIGTERM
    itself, so that all of them stop after the same step: the others are handed on to it.
    What is ignored (under nohup, say) stays ignored. `say` is told where the answer takes time.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def handle(number: int, frame: object) -> None:
        del frame
        signal.signal(number, signal.SIG_DFL)
        interrupt.take(number)

    several = jax.process_count() > 1
    numbers = [signal.SIGINT, signal.SIGHUP] + ([] if several else [signal.SIGTERM])
    left_alone = (signal.SIG_IGN, None)  # None is a handler that is not of Python
    previous = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) not in left_alone}
    for number in previous:
        signal.signal(number, handle)
    try:
        with _answering({int(number) for number in previous}, interrupt.noticed, say):
            yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _answering(
    numbers: set[int], noticed: threading.Event, say: Callable[[str], None]
) -> Iterator[None]:
    """Answers a signal from a thread, while the main one compiles and cannot stop yet."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen() -> None:
        came = False
        while number := os.read(reader, 1):
            if number[0] not in numbers:
                continue
            if came:
                os._exit(128 + number[0])
            came = True
            if not noticed.wait(_PATIENCE):
                say(
                    f"{_name(number[0])}: stopping once this is compiled or computed; "
                    "a second one stops at once, and saves nothing"
                )

    thread = threading.Thread(target=listen, daemon=True)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        noticed.set()
        signal.set_wakeup_fd(previous)
        os.close(writer)
        thread.join()
        os.close(reader)


def _name(number: int) -> str:
    name = signal.Signals(number).name
    return "Ctrl-C" if name == "SIGINT" else name
