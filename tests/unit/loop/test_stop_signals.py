"""SIGINT and SIGTERM ask for an end in the main thread, and are left alone in any other."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from mptcplab.loop.stop_signals import STOP_SIGNALS, on_stop_signal


def test_a_signal_is_told_by_name_and_the_handlers_return() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    told: list[str] = []
    with on_stop_signal(told.append):
        for number in STOP_SIGNALS:
            os.kill(os.getpid(), number)
    assert told == ["SIGINT", "SIGTERM"]
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_another_thread_changes_nothing() -> None:
    def handlers() -> list[object]:
        with on_stop_signal(lambda _name: None):
            return [signal.getsignal(number) for number in STOP_SIGNALS]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(handlers).result() == [signal.getsignal(n) for n in STOP_SIGNALS]
