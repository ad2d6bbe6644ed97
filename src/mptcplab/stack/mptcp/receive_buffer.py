"""The receive buffer that all subflows of a connection share, and the window it allows.

RFC 8684 section 3.3.4: one window for the connection, relative to the DATA_ACK; its right edge
never moves back. The buffer holds what is in order and unread and what waits behind a gap; both
lie between what was read and the right edge, so head-of-line blocking closes the window by itself:
the edge stays at ``read + size`` while the gap lasts.

The size is fixed, or grows with what the application reads in a round trip (dynamic right-sizing
as in Linux's tcp_rcv_space_adjust and mptcp_rcv_space_adjust).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mptcplab.stack.reassembly import Reassembly

if TYPE_CHECKING:
    from mypy_extensions import i64

FIRST_SPACE_SEGMENTS: Final = 10
"""tcp_init_buffer_space: what a round trip is taken to bring at first (TCP_INIT_CWND)."""


FIRST_WINDOW_BYTES: Final = 65_160
"""What Linux offers in its SYN/ACK with an MSS of 1,460 (tcp_select_initial_window)."""

FIRST_LIMIT_BYTES: Final = 86_016
"""What 131,072 bytes (tcp_rmem) hold of packets of 1,448 bytes (scaling_ratio, seen on 6.18)."""


class ReceiveBuffer:
    """In-order and out-of-order bytes of the stream; positions are stream offsets."""

    __slots__ = (
        "_content",
        "_measured_from_ns",
        "_measured_read",
        "_space_bytes",
        "_window_bytes",
        "content_bytes",
        "counting",
        "duplicate_bytes",
        "edge_offset",
        "last_train_bytes",
        "max_bytes",
        "outside_bytes",
        "rcv_nxt",
        "read_offset",
        "reassembly",
        "size_bytes",
    )

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        self.size_bytes: i64 = size_bytes
        self.max_bytes: i64 = max_bytes
        """Size up to which it may grow; 0 for a fixed size."""
        self.rcv_nxt: i64 = 0
        self.read_offset: i64 = 0
        self.edge_offset: i64 = 0
        """Furthest right edge of the window that was advertised."""
        self.reassembly = Reassembly()
        self.duplicate_bytes: i64 = 0
        """Bytes that arrived more than once at this level (reinjections that were not needed)."""
        self.outside_bytes: i64 = 0
        """Bytes beyond the window, not taken."""
        self.last_train_bytes: i64 = 0
        """How much the last train brought."""
        self.content_bytes: i64 = 0
        """Bytes in order that came with their content, not as a length."""
        self.counting: bool = False
        """Some of the unread content came as mere lengths."""
        self._content: deque[bytes | memoryview] = deque()
        self._measured_from_ns: i64 = 0
        self._measured_read: i64 = 0
        self._space_bytes: i64 = 0
        self._window_bytes: i64 = FIRST_LIMIT_BYTES
        """What Linux's window may grow to by now."""

    def largest_bytes(self) -> i64:
        """Return the size that it may reach."""
        return self.max_bytes if self.max_bytes > self.size_bytes else self.size_bytes

    def readable_bytes(self) -> i64:
        """Return what is in order and unread."""
        return self.rcv_nxt - self.read_offset

    def out_of_order_bytes(self) -> i64:
        """Return what waits behind a gap."""
        return self.reassembly.held_bytes

    def window(self, shift: i64, segment_bytes: i64 = 0) -> i64:
        """Return the window to advertise with a scale of ``shift``, and remember its edge.

        The edge moves on in steps worth a segment of ``segment_bytes`` or half the buffer only
        (silly window syndrome, RFC 9293 section 3.8.6.2.2). It is promised: what was offered is
        not taken back (RFC 8684 section 3.3.4), but where rounding to the scale has led a whole
        unit beyond the buffer already it is rounded down, by less than a unit (RFC 7323 section
        2.4); else small segments would push the edge on for ever. ``insert`` takes everything
        before the furthest edge that was advertised.
        """
        size = self.size_bytes
        rcv_nxt = self.rcv_nxt
        promised = self.edge_offset
        limit = self.read_offset + size
        step = size >> 1
        if segment_bytes < step:
            step = segment_bytes
        if limit - promised >= step:
            window = (limit - rcv_nxt) >> shift << shift
        else:
            window = promised - rcv_nxt
        if rcv_nxt + window <= promised:
            # As Linux's tcp_select_window: round up what was promised.
            unit = (1 << shift) - 1
            window = (promised - rcv_nxt + unit) >> shift << shift
            if rcv_nxt + window > limit + unit:
                window = (promised - rcv_nxt) >> shift << shift
        if window > 0xFFFF << shift:
            window = 0xFFFF << shift
        if rcv_nxt + window > promised:
            self.edge_offset = rcv_nxt + window
        return window

    def insert(self, offset: i64, end: i64, payload: bytes | None) -> i64:
        """Take bytes of the stream in; return how many became readable."""
        self.last_train_bytes = end - offset
        rcv_nxt = self.rcv_nxt
        limit = self.read_offset + self.size_bytes
        if limit < self.edge_offset:
            limit = self.edge_offset
        if end > limit:
            self.outside_bytes += end - (limit if limit > offset else offset)
            if offset >= limit:
                return 0
            if payload is not None:
                payload = payload[: limit - offset]
            end = limit
        if offset < rcv_nxt:
            if end <= rcv_nxt:
                self.duplicate_bytes += end - offset
                return 0
            self.duplicate_bytes += rcv_nxt - offset
            if payload is not None:
                payload = payload[rcv_nxt - offset :]
            offset = rcv_nxt
        if offset > rcv_nxt:
            added = self.reassembly.insert(offset, end, payload)
            self.duplicate_bytes += end - offset - added
            return 0
        self._append(end - offset, payload)
        if self.reassembly.held_bytes:
            held_before = self.reassembly.held_bytes
            ready = self.reassembly.take_from(end)
            used = 0
            for start, stop, part in ready:
                self._append(stop - start, part)
                used += stop - start
            self.duplicate_bytes += held_before - self.reassembly.held_bytes - used
        return self.rcv_nxt - rcv_nxt

    def read(self, limit: int) -> bytes:
        """Take out up to ``limit`` bytes. ``ValueError`` if their content is not known."""
        if self.counting:
            raise ValueError("the peer sent lengths without content: use read_length")
        size = min(limit, self.rcv_nxt - self.read_offset)
        self.read_offset += size
        return self._take(size)

    def read_length(self, limit: int) -> int:
        """Take out up to ``limit`` bytes and return how many."""
        size = self.rcv_nxt - self.read_offset
        if size > limit:
            size = limit
        if self._content:
            self._take(size)
        self.read_offset += size
        return size

    def adjust(self, rtt_ns: i64, mss_bytes: i64, now_ns: i64) -> i64:
        """Once per round trip: grow to twice what was read in the last one (tcp_rcvbuf_grow).

        Returns by how much Linux's window would grow: the acknowledgments follow it.
        """
        grown: i64 = 0
        size = self.size_bytes
        if self.max_bytes <= size or rtt_ns <= 0:
            return 0
        if self._space_bytes == 0:
            self._space_bytes = FIRST_SPACE_SEGMENTS * mss_bytes
            self._measured_from_ns = now_ns
            return 0
        elapsed_ns = now_ns - self._measured_from_ns
        if elapsed_ns < rtt_ns:
            return 0
        copied = self.read_offset - self._measured_read
        if elapsed_ns < 2 * rtt_ns:  # what comes in trains ends a round trip late
            copied = copied * rtt_ns // elapsed_ns
        if copied > self._space_bytes:
            wanted = 2 * copied
            # Leave room for a sender in slow start.
            wanted += 2 * wanted * (copied - self._space_bytes) // self._space_bytes
            self._space_bytes = copied
            if wanted > self.max_bytes:
                wanted = self.max_bytes
            if wanted > size:
                self.size_bytes = wanted
            if wanted > self._window_bytes:
                grown = wanted - self._window_bytes
                self._window_bytes = wanted
        self._measured_from_ns = now_ns
        self._measured_read = self.read_offset
        return grown

    def first_growth_bytes(self) -> i64:
        """Return by how much Linux's window grows at first, before anything is measured."""
        limit = self.size_bytes if self.size_bytes < FIRST_LIMIT_BYTES else FIRST_LIMIT_BYTES
        return limit - FIRST_WINDOW_BYTES if limit > FIRST_WINDOW_BYTES else 0

    def _append(self, size: i64, payload: bytes | None) -> None:
        self.rcv_nxt += size
        if payload is None:
            self.counting = True
            return
        self.content_bytes += size
        if not self.counting:
            self._content.append(payload)

    def _take(self, size: int) -> bytes:
        content = self._content
        parts: list[bytes | memoryview] = []
        while size and content:
            part = content.popleft()
            if len(part) > size:
                content.appendleft(memoryview(part)[size:])
                part = memoryview(part)[:size]
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
