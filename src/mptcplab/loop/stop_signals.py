"""SIGINT and SIGTERM as a wish to end in order, in whatever thread a run is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


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
        stop(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
