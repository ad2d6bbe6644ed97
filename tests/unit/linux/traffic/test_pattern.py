from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mptcplab.linux.traffic.pattern import BLOCK_BYTES, HEADER_BYTES, Pattern

PATTERN = Pattern(5001)
positions = st.integers(0, 5 * BLOCK_BYTES)
counts = st.integers(0, 2 * BLOCK_BYTES)


def made(position: int, count: int, pattern: Pattern = PATTERN) -> bytes:
    return b"".join(pattern.pieces(position, count))


@given(positions, counts)
@settings(max_examples=60)
def test_any_piece_is_that_stretch_of_the_whole(position: int, count: int) -> None:
    whole = made(0, position + count)
    assert made(position, count) == whole[position:]


@given(positions, counts)
@settings(max_examples=60)
def test_what_was_sent_compares_equal(position: int, count: int) -> None:
    assert PATTERN.mismatch(position, memoryview(made(position, count))) is None


@given(st.integers(0, 3 * BLOCK_BYTES), st.integers(1, BLOCK_BYTES), st.data())
@settings(max_examples=60)
def test_a_changed_byte_is_found_and_named(position: int, count: int, data: st.DataObject) -> None:
    received = bytearray(made(position, count))
    at = data.draw(st.integers(0, count - 1))
    received[at] ^= data.draw(st.integers(1, 255))
    assert PATTERN.mismatch(position, memoryview(received)) == position + at


@pytest.mark.parametrize("lost", [1, 7, 1448, BLOCK_BYTES, 17 * BLOCK_BYTES])
def test_a_gap_is_found(lost: int) -> None:
    rest = made(BLOCK_BYTES + lost, BLOCK_BYTES)
    found = PATTERN.mismatch(BLOCK_BYTES, memoryview(rest))
    assert found is not None
    assert found < BLOCK_BYTES + HEADER_BYTES


def test_swapped_blocks_are_found() -> None:
    swapped = b"".join([*PATTERN.block(3), *PATTERN.block(2)])
    assert PATTERN.mismatch(2 * BLOCK_BYTES, memoryview(swapped)) == 2 * BLOCK_BYTES + 7


def test_a_block_that_comes_twice_is_found() -> None:
    twice = b"".join([*PATTERN.block(2), *PATTERN.block(2)])
    assert PATTERN.mismatch(2 * BLOCK_BYTES, memoryview(twice)) == 3 * BLOCK_BYTES + 7


def test_another_stream_is_found() -> None:
    other = made(0, BLOCK_BYTES, Pattern(5002))
    assert PATTERN.mismatch(0, memoryview(other)) == HEADER_BYTES - 1


def test_blocks_of_a_round_share_no_stretch_and_rounds_differ() -> None:
    first = made(0, BLOCK_BYTES)
    piece = first[30000 : 30000 + 1448]
    assert piece not in made(BLOCK_BYTES, 15 * BLOCK_BYTES)
    assert made(16 * BLOCK_BYTES, BLOCK_BYTES)[30000 : 30000 + 1448] != piece


def test_the_description_names_the_block_that_came_instead() -> None:
    text = PATTERN.describe(2 * BLOCK_BYTES, made(3 * BLOCK_BYTES, HEADER_BYTES))
    assert "block 2, offset 0" in text
    assert "number 3 of stream 5001" in text


@pytest.mark.parametrize("place", [5000, 2 * BLOCK_BYTES + 40_000, 9 * BLOCK_BYTES + 32_752])
def test_the_description_names_the_place_of_what_came_instead(place: int) -> None:
    text = PATTERN.describe(2 * BLOCK_BYTES + 32_752, made(place, HEADER_BYTES))
    assert text.endswith(f"offset 32752) is wrong: found what belongs at byte {place}")
    other = PATTERN.describe(32_752, bytes(HEADER_BYTES))
    assert other == "byte 32752 (block 0, offset 32752) is wrong"
