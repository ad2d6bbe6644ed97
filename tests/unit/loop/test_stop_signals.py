"""SIGINT, SIGTERM and SIGHUP ask for an end in the main thread, and are left alone in any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mptcplab.loop.stop_signals import STOP_SIGNALS, on_stop_signal

IN_A_FINALISER = """
import os, signal, sys
from mptcplab.loop.stop_signals import Stopped, raise_on_stop_signal

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        [number for number in range(1000)]

raise_on_stop_signal()
try:
    Finalised()
    signal.pause()
except Stopped as stop:
    sys.exit(f"ended by {{stop}}")
"""
IGNORED = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from mptcplab.loop.stop_signals import on_stop_signal, raise_on_stop_signal
raise_on_stop_signal()
with on_stop_signal(print):
    os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), signal.SIGHUP)
print("lives")
"""


def told_by(code: str) -> tuple[str, str]:
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    return ended.stdout, ended.stderr


@pytest.mark.parametrize("name", [number.name for number in STOP_SIGNALS])
def test_no_signal_is_swallowed_in_a_finaliser(name: str) -> None:
    assert told_by(IN_A_FINALISER.format(name=name)) == ("", f"ended by {name}\n")


def test_a_signal_that_is_to_be_ignored_stays_so() -> None:
    assert told_by(IGNORED) == ("lives\n", "")


def test_a_signal_is_told_by_name_and_the_handlers_return() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    told: list[str] = []
    with on_stop_signal(told.append):
        for number in STOP_SIGNALS:
            os.kill(os.getpid(), number)
    assert told == ["SIGINT", "SIGTERM", "SIGHUP"]
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_another_thread_changes_nothing() -> None:
    def handlers() -> list[object]:
        with on_stop_signal(lambda _name: None):
            return [signal.getsignal(number) for number in STOP_SIGNALS]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(handlers).result() == [signal.getsignal(n) for n in STOP_SIGNALS]
