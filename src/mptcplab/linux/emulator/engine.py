"""The emulator's loop: frames out of one TAP device, through the model, into the other.

Both directions run in one thread: under the interpreter's lock a second one gains nothing. The
loop waits on a timerfd and both devices at once.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from mptcplab.linux.emulator.frames import READ_BYTES, FrameError, OffloadedFrame
from mptcplab.linux.emulator.reading import DirectionReading, Lateness
from mptcplab.loop.timerfd import TimerFd
from mptcplab.network.counters import COUNTER_NAMES
from mptcplab.network.link import NEVER, ChannelModel, Piece

READS_PER_TURN: Final = 16
"""Frames read from one device before the other has its turn."""

NEAR_NS: Final = 20_000
"""So close to a deadline it does not pay to sleep (a wake-up takes about as long)."""


class Direction:
    """One direction of the link: from a device, through the model, to the other device."""

    __slots__ = ("channel", "deadline_ns", "lateness", "refused_packets", "sink", "source")

    def __init__(self, source: int, sink: int, channel: ChannelModel) -> None:
        self.source = source
        self.sink = sink
        self.channel = channel
        self.deadline_ns = NEVER
        self.lateness = Lateness()
        self.refused_packets = 0

    def read(self, limit: int) -> None:
        """Offer the model what waits at the device: at most `limit` frames, and none more once a
        delivery is due.
        """
        channel = self.channel
        source = self.source
        for _ in range(limit):
            try:
                frame = os.read(source, READ_BYTES)
            except BlockingIOError:
                break
            except OSError:  # the device is down
                break
            now_ns = monotonic_ns()
            if frame[1] == 0:
                size = len(frame) - 10
                channel.offer(frame, 1, size, size, now_ns)
            else:
                self._offer_train(frame, now_ns)
            deadline_ns = channel.next_deadline_ns()
            self.deadline_ns = deadline_ns
            if deadline_ns <= now_ns:
                break

    def deliver(self) -> None:
        """Write what is due to the other device."""
        channel = self.channel
        sink = self.sink
        record = self.lateness.record
        while True:
            now_ns = monotonic_ns()
            piece = channel.take(now_ns)
            if piece is None:
                break
            item = piece.item
            try:
                if type(item) is bytes:
                    os.write(sink, item)
                else:
                    self._write_train(piece)
            except OSError:
                self.refused_packets += piece.packets
            record(now_ns - piece.arrival_ns)
        self.deadline_ns = channel.next_deadline_ns()

    def reading(self, now_ns: int, *, reset_peak: bool) -> DirectionReading:
        """The counters and the lateness of now."""
        counters = self.channel.read_counters(now_ns, reset_peak=reset_peak)
        return DirectionReading(
            dict(zip(COUNTER_NAMES, counters.values(), strict=True)),
            self.lateness,
            self.refused_packets,
        )

    def _offer_train(self, frame: bytes, now_ns: int) -> None:
        try:
            train = OffloadedFrame(frame)
        except FrameError:
            size = len(frame) - 10
            self.channel.offer(frame, 1, size, size, now_ns)
            return
        self.channel.offer(train, train.packets, train.packet_bytes, train.last_bytes, now_ns)

    def _write_train(self, piece: Piece) -> None:
        train = piece.item
        assert isinstance(train, OffloadedFrame)
        if piece.packets == train.packets:
            os.write(self.sink, train.frame)
        else:
            os.writev(self.sink, train.cut(piece.first, piece.packets))


class Engine:
    """Runs both directions until told to stop.

    `handle_control` is called when the descriptor `control` is readable; it may change the
    channels' parameters, and says whether to go on.
    """

    __slots__ = ("_armed_ns", "_control", "_epoll", "_handle_control", "_timer", "directions")

    def __init__(
        self, directions: tuple[Direction, Direction], control: int, handle: Callable[[], bool]
    ) -> None:
        self.directions = directions
        self._control = control
        self._handle_control = handle
        self._timer = TimerFd()
        self._armed_ns = NEVER
        self._epoll = select.epoll()
        self._epoll.register(self._timer.fd, select.EPOLLIN | select.EPOLLET)
        self._epoll.register(control, select.EPOLLIN)
        for direction in directions:
            self._epoll.register(direction.source, select.EPOLLIN)

    def run(self) -> None:
        """Carry frames."""
        forward, backward = self.directions
        sources = {forward.source: forward, backward.source: backward}
        poll = self._epoll.poll
        while True:
            now_ns = monotonic_ns()
            if forward.deadline_ns <= now_ns:
                forward.deliver()
            if backward.deadline_ns <= now_ns:
                backward.deliver()
            for fd, _ in poll(self._timeout(), 4):
                direction = sources.get(fd)
                if direction is not None:
                    direction.read(READS_PER_TURN)
                elif fd == self._control:
                    if not self._handle_control():
                        return
                    for changed in self.directions:
                        changed.deadline_ns = changed.channel.next_deadline_ns()
                else:
                    self._armed_ns = NEVER

    def _timeout(self) -> int:
        """How long to wait for a frame: not at all when a delivery is close, else until the timer
        goes off."""
        deadline_ns = min(self.directions[0].deadline_ns, self.directions[1].deadline_ns)
        if deadline_ns == NEVER:
            return -1
        if deadline_ns - monotonic_ns() <= NEAR_NS:
            return 0
        if deadline_ns != self._armed_ns:
            self._armed_ns = deadline_ns
            self._timer.arm(deadline_ns)
        return -1
