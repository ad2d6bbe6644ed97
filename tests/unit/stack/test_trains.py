"""How long a train may be, in flows of many rates and round trips."""

from __future__ import annotations

import pytest
from tests.times import MS

from mptcplab.stack.congestion.base import CongestionGroup
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.mptcp.trains import longest_train
from mptcplab.stack.tcp.rtt import RttEstimator
from mptcplab.stack.tcp.sender import Sender
from mptcplab.stack.tcp.timers import Timers
from mptcplab.wire.mptcp import MAX_MAPPING_BYTES

MSS = 1400
MOST = 524_280
AMPLE = 1 << 30


def train(
    cwnd: int,
    flight: int,
    rtt_ns: int,
    room: int = AMPLE,
    window: int = AMPLE,
    largest: int = AMPLE,
    most: int = MOST,
) -> int:
    """A full train in congestion avoidance."""
    rtt = RttEstimator()
    if rtt_ns:
        rtt.add_sample(rtt_ns, 1)
    control = NewReno(MSS, CongestionGroup())
    control.cwnd_bytes = control.ssthresh_bytes = cwnd
    return longest_train(Sender(0, rtt, control, Timers()), flight, room, window, largest, most, MS)


def test_a_slow_flow_sends_what_leaves_in_a_millisecond() -> None:
    assert train(100_000, 100_000, 10 * MS) == 12_000  # 1.2 times 10 MB/s


def test_a_train_has_two_segments_at_least() -> None:
    assert train(4 * MSS, 4 * MSS, 100 * MS) == 2 * MSS


def test_beyond_a_mapping_the_pace_is_that_of_what_is_in_flight() -> None:
    assert train(5_000_000, 1_000_000, 8 * MS) == 150_000
    assert train(5_000_000, 100_000, 8 * MS) == MAX_MAPPING_BYTES


def test_a_train_is_short_against_the_congestion_window() -> None:
    assert train(900_000, 800_000, MS // 2) == 300_000
    assert train(150_000, 150_000, MS // 2) == MAX_MAPPING_BYTES


def test_a_train_is_short_against_the_window_of_the_peer() -> None:
    assert train(900_000, 100_000, MS // 10, largest=600_000) == 200_000


@pytest.mark.parametrize(
    ("room", "expected"),
    [(900_000, 300_000), (600_000, 200_000), (300_000, 100_000), (0, MAX_MAPPING_BYTES)],
)
def test_a_train_shrinks_with_what_is_left_of_the_window(room: int, expected: int) -> None:
    assert train(900_000, 800_000, MS // 2, room, window=6_000_000, largest=6_400_000) == expected


@pytest.mark.parametrize(
    ("room", "expected"), [(900_000, 300_000), (600_000, 200_000), (300_000, 150_000), (0, 150_000)]
)
def test_where_the_peer_does_not_read_it_shrinks_to_half(room: int, expected: int) -> None:
    assert train(900_000, 800_000, MS // 2, room, window=900_000, largest=12_000_000) == expected


def test_nothing_is_longer_than_allowed() -> None:
    assert train(9_000_000, 9_000_000, MS, most=MAX_MAPPING_BYTES) == MAX_MAPPING_BYTES
    assert train(90_000_000, 9_000_000, MS) == MOST
