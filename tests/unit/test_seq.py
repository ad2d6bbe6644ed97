"""Sequence arithmetic across the wrap, and against plain integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mptcplab import seq

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


@given(U32, st.integers(-(2**31) + 1, 2**31 - 1))
def test_comparisons_follow_the_distance(base: int, distance: int) -> None:
    other = seq.seq_add(base, distance)
    assert seq.seq_diff(other, base) == distance
    assert seq.seq_lt(base, other) == (distance > 0)
    assert seq.seq_leq(base, other) == (distance >= 0)
    assert seq.seq_gt(base, other) == (distance < 0)
    assert seq.seq_geq(base, other) == (distance <= 0)
    assert seq.seq_max(base, other) == (other if distance > 0 else base)
    assert seq.seq_min(base, other) == (base if distance > 0 else other)


@given(U64, st.integers(-(2**63) + 1, 2**63 - 1))
def test_data_level_comparisons_follow_the_distance(base: int, distance: int) -> None:
    other = seq.dsn_add(base, distance)
    assert seq.dsn_diff(other, base) == distance
    assert seq.dsn_lt(base, other) == (distance > 0)
    assert seq.dsn_leq(base, other) == (distance >= 0)
    assert seq.dsn_gt(base, other) == (distance < 0)
    assert seq.dsn_geq(base, other) == (distance <= 0)


def test_between_is_half_open_and_wraps() -> None:
    assert seq.seq_between(0xFFFF_FFF0, 0xFFFF_FFF0, 0x10)
    assert seq.seq_between(0xFFFF_FFF0, 5, 0x10)
    assert not seq.seq_between(0xFFFF_FFF0, 0x10, 0x10)
    assert not seq.seq_between(7, 7, 7)


@given(U64, st.integers(-(2**31) + 1, 2**31 - 1))
def test_expansion_restores_a_number_near_the_reference(near: int, distance: int) -> None:
    dsn = seq.dsn_add(near, distance)
    assert seq.expand_dsn(dsn & seq.SEQ32_MASK, near) == dsn
