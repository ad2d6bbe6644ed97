"""DCTCP: a window that shrinks by the share of packets that were marked (RFC 8257).

It grows as Reno's does. For the queues of data centres, which mark early and never drop; losses
halve the window.
"""

from __future__ import annotations

from typing import ClassVar, Final

from mptcplab.stack.congestion.base import AckSample, CongestionGroup
from mptcplab.stack.congestion.newreno import NewReno

_GAIN: Final = 1 / 16
"""g, how much one round trip's share moves the estimate (section 4.2; Linux's dctcp_shift_g 4)."""


class Dctcp(NewReno):
    """RFC 8257, as net/ipv4/tcp_dctcp.c."""

    __slots__ = ("_acked_bytes", "_marked_bytes", "share")

    needs_ecn: ClassVar[bool] = True

    def __init__(self, mss_bytes: int, group: CongestionGroup) -> None:
        super().__init__(mss_bytes, group)
        self.share: float = 1.0
        """alpha, the estimated share of bytes that were marked (section 3.3; Linux begins at 1)."""
        self._acked_bytes: int = 0
        self._marked_bytes: int = 0

    def on_ack(self, ack: AckSample) -> None:
        """Learn once in a round trip what share was marked."""
        self._acked_bytes += ack.acked_bytes
        if ack.echoed:
            self._marked_bytes += ack.acked_bytes
        super().on_ack(ack)
        if self.round_ended:
            share = self._marked_bytes / self._acked_bytes if self._acked_bytes else 0.0
            self.share += _GAIN * (share - self.share)
            self._acked_bytes = 0
            self._marked_bytes = 0

    def on_mark(self, now_ns: int, flight_size_bytes: int) -> None:
        """Shrink the window by half of the share (section 3.4)."""
        window_bytes = int(self.cwnd_bytes * (1.0 - self.share / 2.0))
        self.ssthresh_bytes = max(window_bytes, 2 * self.mss_bytes)
        self.cwnd_bytes = self.ssthresh_bytes
