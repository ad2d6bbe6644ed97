"""SIGINT, SIGTERM and SIGHUP as a wish to end in order, in whatever thread a run is.

A signal that the process was started to ignore (``nohup``, a shell's background jobs) stays
ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S: Final = 0.01

_received: list[int] = []


class Stopped(KeyboardInterrupt):
    """Raised where a stop signal finds a process that has nothing to finish first."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    def __reduce__(self) -> tuple[type[Stopped], tuple[int]]:
        return Stopped, (self.number,)


def stop_received() -> int | None:
    """Return the first stop signal that this process has been sent, None where it has not been."""
    return _received[0] if _received else None


def forget_stop_signals() -> None:
    """Begin anew: a command is not to end by a signal that ended the one before it."""
    _received.clear()


@contextmanager
def on_stop_signal(stop: Callable[[str], None]) -> Iterator[None]:
    """Call ``stop`` with the signal's name, instead of raising, while the block lasts.

    Python gives signals to the main thread alone: in any other nothing is changed, and whoever owns
    the main thread decides what a signal means.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: object) -> None:
        _received.append(number)
        stop(signal.Signals(number).name)

    before = _set_handlers(handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_on_stop_signal() -> None:
    """Let stop signals raise Stopped in this process from now on, wherever it is.

    What is raised in a finaliser or a weak reference's callback goes no further, by the rules of
    Python: it is raised again a moment later, outside.
    """
    forget_stop_signals()

    def stop(number: int, _frame: object) -> None:
        _received.append(number)
        raise Stopped(number)

    def again(_number: int, _frame: object) -> None:
        raise Stopped(_received[-1] if _received else signal.SIGINT)

    _set_handlers(stop)
    signal.signal(signal.SIGALRM, again)

    def hook(unraisable: Any, /) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        else:
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = hook


def end_at_once_on_stop_signal() -> None:
    """Let the kernel end this process at a stop signal: nothing is left to be finished."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    _set_handlers(signal.SIG_DFL)


@contextmanager
def stop_signals_held() -> Iterator[None]:
    """Let stop signals wait while the block lasts; a child forked in it has to let them in."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == owner:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _set_handlers(handler: Any) -> dict[signal.Signals, Any]:
    """Set the handlers of the stop signals that are not ignored; return those of before."""
    return {
        number: signal.signal(number, handler)
        for number in STOP_SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
