"""The emulator's loop: frames out of one TAP device, through the model, into the other.

Both directions run in one thread: under the interpreter's lock a second one gains nothing. The
loop waits for both devices, the control connection and the next delivery at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from select import select
from time import monotonic_ns
from typing import Final

from mptcplab.linux.emulator.arrivals import ArrivalClock
from mptcplab.linux.emulator.frames import (
    READ_BYTES,
    VNET_HEADER_BYTES,
    FrameError,
    OffloadedFrame,
    corrupted,
    marked,
)
from mptcplab.linux.emulator.reading import DirectionReading, Lateness
from mptcplab.loop.timers import NEVER
from mptcplab.network.channel import ChannelModel
from mptcplab.network.counters import COUNTER_NAMES
from mptcplab.network.piece import Piece

_READS_PER_TURN: Final = 16
"""Frames read from one device before the other has its turn."""

_LONG_WAIT_NS: Final = 500_000
_EARLY_NS: Final = 250_000
"""By how much a long wait ends early; more than a CPU takes to wake from deep sleep."""

_SPIN_NS: Final = 100_000
"""How long before a delivery to stop sleeping: more than a timer is late (40 us here in the median,
80 us at the 99th percentile, in a virtual machine)."""
_SPIN_SHARE: Final = 33
_SPIN_SAVED_NS: Final = 1_000_000
"""Of its time, the loop may spin away one part in so many, and save up so much of that. It is
enough for some 500 deliveries a second; with more of them, exact times matter less than the CPU."""


class Direction:
    """One direction of the link: from a device, through the model, to the other device."""

    __slots__ = (
        "_last_ns",
        "channel",
        "clock",
        "deadline_ns",
        "in_trains",
        "lateness",
        "refused_packets",
        "sink",
        "source",
    )

    def __init__(
        self,
        source: int,
        sink: int,
        channel: ChannelModel,
        clock: ArrivalClock | None,
        *,
        in_trains: bool = True,
    ) -> None:
        """Without `in_trains` the sink gets packet by packet what comes as a train."""
        self.source = source
        self.sink = sink
        self.channel = channel
        self.clock = clock
        self.in_trains = in_trains
        self.deadline_ns = NEVER
        self._last_ns = 0
        self.lateness = Lateness()
        self.refused_packets = 0

    def read(self, limit: int) -> bool:
        """Offer the model what waits at the device: at most `limit` frames, and none more once a
        delivery is due. False when the device is there no more.
        """
        source = self.source
        clock = self.clock
        start_ns = monotonic_ns()
        if clock is not None:
            clock.begin()
        for _ in range(limit):
            try:
                frame = os.read(source, READ_BYTES)
            except BlockingIOError:
                if clock is not None:
                    clock.forget(start_ns)
                break
            except OSError:
                return False
            now_ns = monotonic_ns()
            at_ns = now_ns
            if clock is not None:
                at_ns = max(clock.arrival_ns(len(frame) - VNET_HEADER_BYTES, now_ns), self._last_ns)
                self._last_ns = at_ns
            self.offer(frame, at_ns)
            self.settle()
            if self.deadline_ns <= now_ns:
                break
        return True

    def deliver(self) -> None:
        """Write what is due to the other device."""
        channel = self.channel
        record = self.lateness.record
        while True:
            now_ns = monotonic_ns()
            piece = channel.take(now_ns)
            if piece is None:
                break
            try:
                self.write(piece, now_ns)
            except (OSError, FrameError):
                self.refused_packets += piece.packets
            record(now_ns - piece.arrival_ns)
        self.settle()

    def offer(self, frame: bytes, at_ns: int) -> None:
        """Offer the model a frame that came at this time."""
        if frame[1] == 0:
            size = len(frame) - VNET_HEADER_BYTES
            self.channel.offer(frame, 1, size, size, at_ns)
        else:
            self._offer_train(frame, at_ns)

    def write(self, piece: Piece, now_ns: int) -> None:  # noqa: ARG002  for what comes behind
        """Write a piece to the other device; `OSError` where that does not take it."""
        item = piece.item
        if piece.corrupt:
            self._write_corrupt(piece)
        elif type(item) is bytes:
            os.write(self.sink, marked(item) if piece.marked else item)
        else:
            self._write_train(piece)

    def settle(self) -> None:
        """Note when the next delivery is due."""
        self.deadline_ns = self.channel.next_deadline_ns()

    def reading(self, now_ns: int, *, reset_peak: bool) -> DirectionReading:
        """The counters and the lateness of now; peaks begin anew with `reset_peak`."""
        counters = self.channel.read_counters(now_ns, reset_peak=reset_peak)
        lateness = self.lateness
        if reset_peak:
            lateness = replace(lateness)
            self.lateness.max_ns = 0
        return DirectionReading(
            dict(zip(COUNTER_NAMES, counters.values(), strict=True)),
            lateness,
            self.refused_packets,
        )

    def _offer_train(self, frame: bytes, now_ns: int) -> None:
        try:
            train = OffloadedFrame(frame)
        except FrameError:
            size = len(frame) - VNET_HEADER_BYTES
            self.channel.offer(frame, 1, size, size, now_ns)
            return
        self.channel.offer(train, train.packets, train.packet_bytes, train.last_bytes, now_ns)

    def _write_train(self, piece: Piece) -> None:
        train = piece.item
        assert isinstance(train, OffloadedFrame)
        if not self.in_trains:
            for number in range(piece.first, piece.first + piece.packets):
                self._write_part(train, number, 1, mark=piece.marked)
        elif piece.packets == train.packets:
            os.write(self.sink, marked(train.frame) if piece.marked else train.frame)
        else:
            self._write_part(train, piece.first, piece.packets, mark=piece.marked)

    def _write_corrupt(self, piece: Piece) -> None:
        """Write a damaged packet; one that no checksum covers is dropped, as by a network card."""
        item = piece.item
        frame: bytes | bytearray
        if isinstance(item, OffloadedFrame):
            headers, payload = item.cut(piece.first, 1)
            frame = headers + payload
        else:
            assert isinstance(item, bytes)
            frame = item
        damaged = corrupted(marked(frame) if piece.marked else frame)
        if damaged is not None:
            os.write(self.sink, damaged)

    def _write_part(self, train: OffloadedFrame, first: int, packets: int, *, mark: bool) -> None:
        headers, payload = train.cut(first, packets)
        os.writev(self.sink, (marked(headers) if mark else headers, payload))


class Engine:
    """Runs both directions until told to stop.

    `handle` is called when the descriptor `control` is readable; it may change the channels'
    parameters, and says whether to go on.

    The loop waits with `select`, whose timeout is exact to the microsecond where epoll's is a
    millisecond, and which takes two thirds of the CPU time of epoll with a timerfd here. A CPU
    that has slept for long takes long to wake (150 us in a virtual machine, against 10 us after
    100 us of sleep), so a long wait ends a little early and is followed by a short one; and where
    deliveries are few, the last moments before each are spent asking for frames without sleep.
    """

    __slots__ = (
        "_control",
        "_handle",
        "_saved_ns",
        "_saved_until_ns",
        "_spin_for_ns",
        "directions",
    )

    def __init__(
        self, directions: tuple[Direction, Direction], control: int, handle: Callable[[], bool]
    ) -> None:
        self.directions = directions
        self._control = control
        self._handle = handle
        self._saved_ns = 0  # of the time it may spin away, as of
        self._saved_until_ns = monotonic_ns()
        self._spin_for_ns = NEVER  # the delivery for which the present spin has been paid

    def run(self) -> None:
        """Carry frames."""
        forward, backward = self.directions
        sources = {forward.source: forward, backward.source: backward}
        watched = [forward.source, backward.source, self._control]
        none: list[int] = []
        while True:
            now_ns = monotonic_ns()
            if forward.deadline_ns <= now_ns:
                forward.deliver()
            if backward.deadline_ns <= now_ns:
                backward.deliver()
            deadline_ns = min(forward.deadline_ns, backward.deadline_ns)
            if deadline_ns == NEVER:
                ready, _, _ = select(watched, none, none)
            else:
                ready, _, _ = select(watched, none, none, self._timeout_s(deadline_ns))
            for fd in ready:
                direction = sources.get(fd)
                if direction is not None:
                    if not direction.read(_READS_PER_TURN):
                        watched.remove(fd)
                elif not self._handle():
                    return
                else:
                    forward.settle()
                    backward.settle()

    def _timeout_s(self, deadline_ns: int) -> float:
        """How long to wait for a frame until a delivery is due."""
        now_ns = monotonic_ns()
        wait_ns = deadline_ns - now_ns
        if wait_ns <= 0 or deadline_ns == self._spin_for_ns:
            return 0.0
        if wait_ns > _LONG_WAIT_NS:
            return (wait_ns - _EARLY_NS) * 1e-9
        saved_ns = self._saved_ns + (now_ns - self._saved_until_ns) // _SPIN_SHARE
        self._saved_ns = saved_ns = min(saved_ns, _SPIN_SAVED_NS)
        self._saved_until_ns = now_ns
        if saved_ns >= _SPIN_NS:
            if wait_ns > _SPIN_NS:
                return (wait_ns - _SPIN_NS) * 1e-9
            self._saved_ns = saved_ns - wait_ns
            self._spin_for_ns = deadline_ns
            return 0.0
        return wait_ns * 1e-9
