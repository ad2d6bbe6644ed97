"""What a sender and a receiver process share: their orders, their answers, their progress.

A worker reads orders as lines on standard input ("go", "stop", "close"), and ends when its input
ends, that is when its testbed has died.  It answers with one JSON object a line on standard output.
After "done" it keeps its sockets as they are until "close", so that the testbed can ask the kernel
what they did.  Its progress is a row of 64-bit counters in a file that both sides map: reading
them costs the worker nothing.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from mptcplab.units import BITS_NS

BYTES_SLOT: Final = 0  # sent, or received and checked
_SLOTS: Final = 8
_SLOT_BYTES: Final = 8


class Progress:
    """Counters of one worker, in a mapped file; each store and load is one machine word."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)  # the whole of it
        self.slots = memoryview(self._map).cast("q")

    @staticmethod
    def create(path: Path, slots: int = _SLOTS) -> Progress:
        """Make the file, all counters zero, and map it."""
        path.write_bytes(bytes(slots * _SLOT_BYTES))
        return Progress(path)

    def close(self) -> None:
        """Unmap the file."""
        self.slots.release()
        self._map.close()


def answer(event: str, **values: Any) -> None:
    """Send one answer to the testbed."""
    line = json.dumps({"event": event, "monotonic_ns": time.monotonic_ns(), **values}) + "\n"
    os.write(1, line.encode())


def fail(text: str) -> NoReturn:
    """Send the reason and end this process."""
    answer("failed", text=text)
    os._exit(1)


class Pace:
    """The rate of an application: after each write or read it waits as long as that takes at it."""

    def __init__(self, rate_bps: int | None, stop: threading.Event) -> None:
        """Take the rate (bit/s), None for none, and what ends the waiting: "stop"."""
        self._rate_bps = rate_bps
        self._stop = stop
        self._next_ns = 0

    def wait(self, size_bytes: int) -> None:
        """Wait for the time of the next write or read, after one of so many bytes."""
        if self._rate_bps is None or self._stop.is_set():
            return
        now_ns = time.monotonic_ns()
        begun_ns = max(self._next_ns, now_ns - size_bytes * BITS_NS // self._rate_bps)
        self._next_ns = begun_ns + size_bytes * BITS_NS // self._rate_bps
        if self._next_ns > now_ns:
            self._stop.wait((self._next_ns - now_ns) / 1e9)


class Orders:
    """Listens to the testbed on a thread of its own, which sleeps until an order comes."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.stop = threading.Event()
        self.close = threading.Event()
        self._on_stop: Callable[[], None] | None = None
        threading.Thread(target=self._listen, daemon=True, name="orders").start()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` (on the listening thread) when "stop" comes, or now if it has come."""
        self._on_stop = callback
        if self.stop.is_set():
            callback()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line == "go\n":
                self.go.set()
            elif line == "stop\n":
                self.stop.set()
                if self._on_stop is not None:
                    self._on_stop()
                self.go.set()
            elif line == "close\n":
                self.close.set()
        os._exit(2)  # the testbed has gone
