"""How long a train may be: sized to the pace, as hosts with segmentation offload do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.tcp.pacing import AVOIDANCE_PERCENT, SLOW_START_PERCENT
from mptcplab.stack.tcp.sender import Sender
from mptcplab.wire.mptcp import MAX_MAPPING_BYTES

if TYPE_CHECKING:
    from mypy_extensions import i64

WINDOW_DIVISOR: Final = 3
"""A train longer than one mapping is no larger than this part of the congestion window, which is
what the path is known to hold, so that it is short against the queue and ACKs keep coming all
through it; of the largest window of the peer; and of what that window still has room for, which
subflows share (Linux's tcp_tso_win_divisor is a third of both windows)."""

READER_DIVISOR: Final = 2
"""Where the peer's application is what holds the sender back, a train need not shrink with the room
that is left, but has this part of its length: there it comes back as the step in which the window
opens, since hosts read as much at once as a train brings."""


def reader_bound(window_bytes: i64, largest_window_bytes: i64) -> bool:
    """Say whether the peer's buffer is more than half full of what its application has not read.

    Reading then clocks the sender. What is in flight, or waits behind a gap, does not narrow the
    window that is offered; what is unread does.
    """
    return 2 * window_bytes < largest_window_bytes


def longest_train(
    sender: Sender,
    in_flight_bytes: i64,
    window_room_bytes: i64,
    window_bytes: i64,
    largest_window_bytes: i64,
    most_bytes: i64,
    train_time_ns: i64,
) -> i64:
    """Return how much a full train holds now, at most ``most_bytes`` and at least one segment.

    As Linux's tcp_tso_autosize: what leaves in ``train_time_ns`` at the pacing rate (as
    tcp_update_pacing_rate has it, whether or not there is pacing), at least two segments; 0 for no
    such bound. A train of several mappings goes by the rate that there is: by what is in flight,
    which the peer's window or the application may hold far below the congestion window.
    ``window_bytes`` is the window that the peer offers, ``largest_window_bytes`` the widest it has
    been, ``window_room_bytes`` what is left of it.
    """
    congestion = sender.congestion
    cwnd: i64 = congestion.cwnd_bytes
    srtt_ns: i64 = sender.rtt.srtt_ns
    mss = sender.mss_bytes
    target = most_bytes
    paced_by_time = train_time_ns > 0 and srtt_ns > 0
    if target > MAX_MAPPING_BYTES:
        longest = cwnd if cwnd < largest_window_bytes else largest_window_bytes
        longest = longest // WINDOW_DIVISOR
        if paced_by_time:
            pace = AVOIDANCE_PERCENT * in_flight_bytes * train_time_ns // (srtt_ns * 100)
            if pace < longest:
                longest = pace
        share = window_room_bytes // WINDOW_DIVISOR
        if share < longest:
            if reader_bound(window_bytes, largest_window_bytes):
                least = longest // READER_DIVISOR
                if share < least:
                    share = least
            longest = share
        if longest > MAX_MAPPING_BYTES:
            # What is in flight is less than the congestion window: so is its pace.
            return longest if longest < target else target
        target = MAX_MAPPING_BYTES
    if paced_by_time:
        percent: i64 = AVOIDANCE_PERCENT
        if cwnd < congestion.ssthresh_bytes:
            percent = SLOW_START_PERCENT
        paced = percent * cwnd * train_time_ns // (srtt_ns * 100)
        if paced < 2 * mss:
            paced = 2 * mss
        if paced < target:
            target = paced
    return target if target > mss else mss
