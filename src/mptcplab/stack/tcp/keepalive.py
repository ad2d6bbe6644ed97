"""Keepalive probes of an idle connection (RFC 9293 section 3.8.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.tcp.timers import Timers

if TYPE_CHECKING:
    from mypy_extensions import i64


class Keepalive:
    """When an idle peer is asked whether it is there, and how often in vain."""

    __slots__ = ("_interval_ns", "_most", "_sent", "_timers", "idle_ns")

    def __init__(self, timers: Timers, idle_ns: i64, interval_ns: i64, most: i64) -> None:
        self._timers: Timers = timers
        self.idle_ns: i64 = idle_ns
        """How long before the first; 0 for no probes."""
        self._interval_ns: i64 = interval_ns
        self._most: i64 = most
        """Unanswered probes that end the connection."""
        self._sent: i64 = 0

    def restart(self, now_ns: i64) -> None:
        """Something came from the peer of a synchronized connection."""
        if self.idle_ns:
            self._sent = 0
            self._timers.keepalive_ns = now_ns + self.idle_ns

    def stop(self) -> None:
        """Ask no more: the connection ends."""
        self._timers.keepalive_ns = NEVER_NS

    def may_probe(self) -> bool:
        """The timer expired: say whether to send one more probe, or to give the peer up."""
        if self._sent >= self._most:
            return False
        self._sent += 1
        self._timers.keepalive_ns += self._interval_ns
        return True
