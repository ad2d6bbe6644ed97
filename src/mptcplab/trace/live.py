"""Captures that are still being made: read as they grow, and explained again and again."""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from mptcplab.trace.files.capture import CaptureFile
from mptcplab.trace.follow.read_pass import Reading
from mptcplab.trace.trace import Trace, reconstructed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mptcplab.trace.decode.segments import Segments
    from mptcplab.trace.files.batch import Batch
    from mptcplab.trace.files.sources import Source
    from mptcplab.trace.follow.tcp import Followed

_WAIT_S: Final = 0.05
_LEAST_PAUSE_S: Final = 1.0
_AGREEING: Final = 2
"""So many explanations are made of the same packets: the next confirms what the first says."""
_PAUSES: Final = 10
"""An explanation of what is known so far may cost one part in so many of the time."""


@dataclass(slots=True)
class Bounds:
    """When to stop; None for no such bound."""

    packets: int | None = None
    seconds: float | None = None
    """Of this machine's clock, from the start."""


@dataclass(slots=True)
class Hooks:
    """What is called while a capture grows."""

    refreshed: Callable[[Trace], None]
    """Given what is known so far, every second or less often."""
    arrived: Callable[[Trace, Batch, Segments, Followed | None], None] | None = None
    """Given each batch of packets, and what was known of the connections shortly before."""


class Watch:
    """A capture that is read while it grows, until it ends or is told to stop."""

    def __init__(self, path: Path, bounds: Bounds, hooks: Hooks) -> None:
        self._path = path
        self._bounds = bounds
        self._hooks = hooks
        self._reading = Reading()
        self._begun = time.monotonic()
        self._due = self._begun + _LEAST_PAUSE_S
        self._told_packets = [0, 0]
        """How many packets there were at the last refreshes."""
        self._known_flows = -1
        self._so_far: Trace | None = None
        self.stopped = False

    def run(self, source: Source | None = None) -> Trace:
        """Read until the end; returns everything.

        ``source`` stands for the file where the packets come from elsewhere.  Raises
        ``CaptureError`` for what is not a capture.  SIGINT and SIGTERM end it, as any other end
        does; a second one interrupts.
        """
        with _stopping(self):
            file = CaptureFile(self._path, more_comes=self.more_comes, source=source)
            for batch in file.batches():
                self._take(batch)
                if self.stopped:
                    file.close()
                    break
            self._reading.damage.extend(file.damage)
        return reconstructed([self._path], self._reading)

    def more_comes(self) -> bool:
        """Wait a little for more bytes; False when no more are wanted."""
        self._refresh_if_due()
        seconds = self._bounds.seconds
        if seconds is not None and time.monotonic() - self._begun >= seconds:
            self.stopped = True
        if not self.stopped:
            time.sleep(_WAIT_S)
        return not self.stopped

    def _take(self, batch: Batch) -> None:
        most = self._bounds.packets
        if most is not None and self._reading.packets + len(batch) >= most:
            batch = batch.take(slice(0, most - self._reading.packets))
            self.stopped = True
        segments = self._reading.decoder.decode(batch)
        placed = self._reading.placer.place(segments)
        followed = self._reading.take(batch.span(), segments, placed)
        if self._hooks.arrived is not None:
            flows = self._reading.placer.table.count
            if self._so_far is None or flows != self._known_flows or segments.options:
                self._so_far, self._known_flows = self._snapshot(), flows
            self._hooks.arrived(self._so_far, batch, segments, followed)
        self._refresh_if_due()

    def _refresh_if_due(self) -> None:
        begun = time.monotonic()
        if self._told_packets[-_AGREEING:] == [self._reading.packets] * _AGREEING:
            return
        if begun < self._due:
            return
        self._told_packets = [self._told_packets[-1], self._reading.packets]
        self._hooks.refreshed(self._snapshot())
        ended = time.monotonic()
        self._due = ended + max(_LEAST_PAUSE_S, _PAUSES * (ended - begun))

    def _snapshot(self) -> Trace:
        """Reconstruct what is known so far; the reading goes on from where it was."""
        notes, malformed = self._reading.notes, self._reading.decoder.malformed
        memo = {id(notes): list(notes), id(malformed): list(malformed)}  # these do not change
        return reconstructed([self._path], copy.deepcopy(self._reading, memo))


@contextmanager
def _stopping(watch: Watch) -> Iterator[None]:
    """Let the first signal stop the watch; the next is the usual interrupt."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        watch.stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
