"""Spacing transmissions over the round trip, as Linux's internal pacing does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.tcp.timers import Timers

if TYPE_CHECKING:
    from mypy_extensions import i64

SECOND_NS: Final = 1_000_000_000

UNPACED_SEGMENTS: Final = 10
"""The first of a connection are not paced (tcp_update_skb_after_send)."""

SLOW_START_PERCENT: Final = 200
"""Linux's tcp_pacing_ss_ratio and tcp_pacing_ca_ratio, in percent of cwnd / srtt."""
AVOIDANCE_PERCENT: Final = 120


class Pacing:
    """When a paced subflow may send again; without pacing, always."""

    __slots__ = ("_stamp_ns", "_timers", "enabled")

    def __init__(self, timers: Timers) -> None:
        self.enabled: bool = False
        self._stamp_ns: i64 = 0
        """Until when the last transmission stands for (tcp_wstamp_ns)."""
        self._timers: Timers = timers

    def holds(self, now_ns: i64) -> bool:
        """Say whether it is too early to send."""
        if not self.enabled:
            return False
        allowed_ns = self._timers.pacing_ns
        return allowed_ns != NEVER_NS and now_ns < allowed_ns

    def note_sent(self, size_bytes: i64, bytes_per_s: i64, now_ns: i64) -> None:
        """So many bytes leave: work out when the next may, at a rate above 0.

        What leaves later than it might have is charged up to half as long, so that late timers
        cost no rate (tcp_update_skb_after_send).
        """
        start_ns = max(self._stamp_ns, now_ns)
        length_ns = size_bytes * SECOND_NS // bytes_per_s
        length_ns -= min(length_ns // 2, start_ns - self._stamp_ns)
        self._stamp_ns = start_ns + length_ns
        self._timers.pacing_ns = self._stamp_ns


def window_rate(cwnd_bytes: i64, srtt_ns: i64, slow_start: bool) -> i64:
    """Return the rate at which a window is spread over its round trip (bytes per second).

    As Linux's tcp_update_pacing_rate.
    """
    percent: i64 = SLOW_START_PERCENT if slow_start else AVOIDANCE_PERCENT
    return cwnd_bytes * (SECOND_NS // 100) // srtt_ns * percent
