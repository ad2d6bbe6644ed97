"""The shared receive buffer and its window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcplab.stack.mptcp.receive_buffer import ReceiveBuffer


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


@given(
    st.integers(0, 14),
    st.integers(500, 3_000_000),
    st.lists(st.tuples(st.integers(1, 70_000), st.integers(0, 70_000)), max_size=40),
)
def test_the_edge_never_retreats_and_everything_before_it_is_taken(
    shift: int, size: int, steps: list[tuple[int, int]]
) -> None:
    buffer = ReceiveBuffer(size, 0)
    seen = 0
    for arriving, reading in steps:
        window = buffer.window(shift)
        assert window % (1 << shift) == 0
        edge = buffer.rcv_nxt + window
        assert edge >= seen
        seen = edge
        end = min(edge, buffer.rcv_nxt + arriving)
        if end > buffer.rcv_nxt:
            gained = end - buffer.rcv_nxt
            assert buffer.insert(buffer.rcv_nxt, end, None) == gained
        buffer.read_length(reading)
