"""Messages between controller and agent: what is one, and what is refused."""

from __future__ import annotations

import struct

import pytest

from mptcplab.remote.frames import LONGEST_BYTES, FrameError, FrameReader, encode


def test_messages_arrive_whatever_the_pieces() -> None:
    messages = [{"do": "clock", "id": n, "text": "µ" * n} for n in range(5)]
    stream = b"".join(map(encode, messages))
    for size in (1, 3, 7, len(stream)):
        reader = FrameReader()
        pieces = (stream[start : start + size] for start in range(0, len(stream), size))
        assert [each for piece in pieces for each in reader.feed(piece)] == messages


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (struct.pack("!I", LONGEST_BYTES + 1), "is announced"),
        (b"\x1b[2J\x1b[Hnoise", "is announced"),
        (struct.pack("!I", 3) + b"{]}", "not JSON"),
        (struct.pack("!I", 2) + b"\xff\xfe", "not JSON"),
        (struct.pack("!I", 3) + b"NaN", "not JSON"),
        (struct.pack("!I", 2) + b"[]", "expected an object"),
        (struct.pack("!I", 200_000) + b"[" * 200_000, "not JSON"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(FrameError, match=says):
        list(FrameReader().feed(data))


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(FrameError, match="expected"):
        encode({"text": "x" * LONGEST_BYTES})
