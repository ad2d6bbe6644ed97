"""Sequence arithmetic across the wrap, and against plain integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcplab.seq import SEQ32_MASK, dsn_add, dsn_diff, seq_add, seq_lt, unwrap32

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


@given(U32, st.integers(-(2**31) + 1, 2**31 - 1))
def test_the_order_of_32_bit_numbers_follows_their_distance(base: int, distance: int) -> None:
    other = seq_add(base, distance)
    assert 0 <= other < 2**32
    assert seq_lt(base, other) == (distance > 0)
    assert seq_lt(other, base) == (distance < 0)


@given(U64, st.integers(-(2**63) + 1, 2**63 - 1))
def test_the_distance_of_64_bit_numbers_is_what_was_added(base: int, distance: int) -> None:
    other = dsn_add(base, distance)
    assert 0 <= other < 2**64
    assert dsn_diff(other, base) == distance


@given(st.integers(-(2**31), 2**61 - 1), st.integers(-(2**31), 2**31 - 1))
def test_unwrapping_restores_a_number_near_the_reference(near: int, distance: int) -> None:
    assert unwrap32((near + distance) & SEQ32_MASK, near) == near + distance


@given(U32, st.integers(0, 2**60), st.integers(-(2**31), 2**31 - 1))
def test_unwrapping_takes_a_difference_of_two_fields(
    initial: int, near: int, distance: int
) -> None:
    field = (initial + near + distance) & SEQ32_MASK
    assert unwrap32(field - initial, near) == near + distance


@pytest.mark.parametrize(
    ("number", "near", "expected"),
    [
        (5, 0xFFFF_FFF0, 0x1_0000_0005),  # forward over the wrap
        (0xFFFF_FFF0, 0x1_0000_0005, 0xFFFF_FFF0),  # back over it
        (0xFFFF_FFFF, 0, -1),  # before the start of the stream
        (0x8000_0000, 0, -0x8000_0000),  # half the space away: the earlier one
    ],
)
def test_unwrapping_around_the_wrap(number: int, near: int, expected: int) -> None:
    assert unwrap32(number, near) == expected
