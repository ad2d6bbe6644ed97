"""The shared receive buffer and its window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcplab.stack.mptcp.receive_buffer import (
    FIRST_LIMIT_BYTES,
    FIRST_WINDOW_BYTES,
    ReceiveBuffer,
)


def test_window_counts_from_what_was_read() -> None:
    buffer = ReceiveBuffer(1000, 0)
    assert buffer.window(0) == 1000
    buffer.insert(0, 600, None)
    assert buffer.window(0) == 400
    assert buffer.read_length(100) == 100
    assert buffer.window(0) == 500


def test_a_gap_closes_the_window() -> None:
    buffer = ReceiveBuffer(1000, 0)
    buffer.window(0)
    assert buffer.insert(100, 1000, None) == 0
    assert buffer.out_of_order_bytes() == 900
    assert buffer.window(0) == 1000
    assert buffer.insert(0, 100, None) == 1000
    assert buffer.window(0) == 0


def test_what_lies_outside_is_refused_and_counted() -> None:
    buffer = ReceiveBuffer(1000, 0)
    buffer.window(0)
    assert buffer.insert(0, 1500, bytes(1500)) == 1000
    assert buffer.outside_bytes == 500
    assert buffer.insert(2000, 2100, None) == 0
    assert buffer.read(5000) == bytes(1000)


def test_duplicates_are_counted_and_not_delivered_twice() -> None:
    buffer = ReceiveBuffer(1000, 0)
    buffer.window(0)
    buffer.insert(0, 10, b"0123456789")
    assert buffer.insert(5, 12, b"56789ab") == 2
    assert buffer.duplicate_bytes == 5
    assert buffer.read(100) == b"0123456789ab"


def test_lengths_cannot_be_read_as_bytes() -> None:
    buffer = ReceiveBuffer(1000, 0)
    buffer.insert(0, 10, None)
    with pytest.raises(ValueError, match="lengths"):
        buffer.read(100)
    assert buffer.read_length(100) == 10


def test_the_buffer_grows_with_what_a_round_trip_brings_beyond_the_last() -> None:
    """tcp_rcvbuf_grow, after ten segments that tcp_init_buffer_space takes for granted."""
    buffer = ReceiveBuffer(20_000, 10_000_000)
    rtt_ns, mss = 1_000_000, 1_000
    position = 0

    def bring(size: int, now_ns: int) -> int:
        nonlocal position
        buffer.insert(position, position + size, None)
        position += size
        buffer.read_length(size)
        return buffer.adjust(rtt_ns, mss, now_ns)

    assert bring(1_000, 1) == 0  # the measurement begins
    assert bring(9_000, 1 + rtt_ns) == 0
    assert buffer.size_bytes == 20_000
    assert bring(15_000, 1 + 2 * rtt_ns) == 0  # Linux's window was larger from the start
    assert buffer.size_bytes == 2 * 15_000 + 2 * (2 * 15_000) * 5_000 // 10_000
    grown = bring(30_000, 1 + 3 * rtt_ns)
    assert buffer.size_bytes == 3 * 2 * 30_000
    assert grown == buffer.size_bytes - FIRST_LIMIT_BYTES


@pytest.mark.parametrize(
    ("size", "growth"), [(1_000_000, FIRST_LIMIT_BYTES - FIRST_WINDOW_BYTES), (65_536, 376), (1, 0)]
)
def test_a_window_grows_at_first_to_what_the_buffer_holds(size: int, growth: int) -> None:
    assert ReceiveBuffer(size, 0).first_growth_bytes() == growth


@pytest.mark.slow
@given(
    st.integers(0, 14),
    st.integers(500, 3_000_000),
    st.integers(0, 9_000),
    st.lists(st.tuples(st.integers(1, 70_000), st.integers(0, 70_000)), max_size=40),
)
def test_what_was_advertised_is_taken_and_hardly_ever_taken_back(
    shift: int, size: int, segment: int, steps: list[tuple[int, int]]
) -> None:
    buffer = ReceiveBuffer(size, 0)
    unit = 1 << shift
    furthest = 0
    for arriving, reading in steps:
        full = buffer.edge_offset >= buffer.read_offset + size
        window = buffer.window(shift, segment)
        assert window % unit == 0
        assert window >> shift <= 0xFFFF
        edge = buffer.rcv_nxt + window
        if window >> shift < 0xFFFF:
            assert edge >= furthest if not full else edge > furthest - unit
        assert edge < buffer.read_offset + size + 2 * unit
        furthest = max(furthest, edge)
        end = min(furthest, buffer.rcv_nxt + arriving)
        if end > buffer.rcv_nxt:
            gained = end - buffer.rcv_nxt
            assert buffer.insert(buffer.rcv_nxt, end, None) == gained
        buffer.read_length(reading)


def test_small_segments_do_not_push_the_edge_beyond_the_buffer() -> None:
    buffer = ReceiveBuffer(10_000, 0)
    while buffer.window(7):
        end = min(buffer.rcv_nxt + 100, buffer.edge_offset)
        buffer.insert(buffer.rcv_nxt, end, None)
        assert buffer.readable_bytes() < 10_000 + 2 * 128
    assert buffer.readable_bytes() >= 10_000 - 128


def test_the_edge_moves_in_steps_worth_a_segment() -> None:
    buffer = ReceiveBuffer(10_000, 0)
    assert buffer.window(0, 1000) == 10_000
    buffer.insert(0, 10_000, None)
    buffer.read_length(999)
    assert buffer.window(0, 1000) == 0
    buffer.read_length(1)
    assert buffer.window(0, 1000) == 1000


def test_an_edge_offered_elsewhere_is_cut_to_what_the_field_can_say() -> None:
    buffer = ReceiveBuffer(1_000_000, 0)
    assert buffer.window(7) == 1_000_000 >> 7 << 7
    assert buffer.window(0) == 0xFFFF
    assert buffer.edge_offset == 1_000_000 >> 7 << 7
