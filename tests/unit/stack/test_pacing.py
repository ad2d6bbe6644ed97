"""Pacing: when the next train may leave."""

from __future__ import annotations

from tests.times import MS

from mptcplab.stack.tcp.pacing import Pacing
from mptcplab.stack.tcp.timers import Timers

RATE = 1_000_000  # bytes per second: 1,000 bytes take a millisecond


def test_trains_are_spaced_by_their_length() -> None:
    timers = Timers()
    pacing = Pacing(timers)
    pacing.enabled = True
    pacing.note_sent(1000, RATE, 0)
    assert timers.pacing_ns == MS
    assert pacing.holds(MS - 1)
    pacing.note_sent(2000, RATE, MS)
    assert timers.pacing_ns == 3 * MS


def test_what_leaves_late_is_charged_less_but_half_at_least() -> None:
    """As tcp_update_skb_after_send takes jitter into account."""
    timers = Timers()
    pacing = Pacing(timers)
    pacing.note_sent(1000, RATE, 0)
    pacing.note_sent(1000, RATE, MS + MS // 4)
    assert timers.pacing_ns == 2 * MS
    pacing.note_sent(1000, RATE, 50 * MS)  # after a pause
    assert timers.pacing_ns == 50 * MS + MS // 2
