"""Proportional rate reduction: how fast recovery sends (RFC 6937, Linux's tcp_cwnd_reduction).

The window comes down to its new size while acknowledgments keep coming, and nothing leaves that
they do not pay for: where a burst of losses is noticed at once, what is sent again does not meet
the queue that overflowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i64


class RateReduction:
    """One recovery's account, in bytes."""

    __slots__ = ("_delivered_bytes", "_flight_bytes", "_sent_bytes", "target_bytes")

    def __init__(self) -> None:
        self.target_bytes: i64 = 0
        """The window that recovery ends with (ssthresh)."""
        self._flight_bytes: i64 = 1
        """What was in flight at its start (RecoverFS)."""
        self._delivered_bytes: i64 = 0
        """prr_delivered."""
        self._sent_bytes: i64 = 0
        """prr_out."""

    def begin(self, target_bytes: i64, flight_bytes: i64) -> None:
        """Recovery begins, with so much outstanding."""
        self.target_bytes = target_bytes
        self._flight_bytes = flight_bytes if flight_bytes > 0 else 1
        self._delivered_bytes = 0
        self._sent_bytes = 0

    def note_sent(self, size_bytes: i64) -> None:
        """So much leaves in recovery, new or again."""
        self._sent_bytes += size_bytes

    def window_bytes(self, pipe_bytes: i64, delivered_bytes: i64, safe: bool, mss: i64) -> i64:
        """Return the window after an ACK that delivered so much and left ``pipe_bytes`` in flight.

        Section 3.1 of the RFC; ``safe`` says that the ACK made progress and showed no new loss:
        then the slow start bound holds, else the conservative one, as in Linux. A segment at least.
        """
        self._delivered_bytes += delivered_bytes
        if pipe_bytes > self.target_bytes:
            paid = self._delivered_bytes * self.target_bytes + self._flight_bytes - 1
            allowed = paid // self._flight_bytes - self._sent_bytes
        else:
            allowed = self._delivered_bytes - self._sent_bytes
            if safe:
                if allowed < delivered_bytes:
                    allowed = delivered_bytes
                allowed += mss
            if allowed > self.target_bytes - pipe_bytes:
                allowed = self.target_bytes - pipe_bytes
        window = pipe_bytes + (allowed if allowed > 0 else 0)
        return window if window > mss else mss
