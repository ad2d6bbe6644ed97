"""A request and its response, or a message that wants none: what each is, and how it is framed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("!QQQ")
HEADER_BYTES: Final = _HEADER.size
"""What every request and message begins with, and so its least size."""


@dataclass(slots=True)
class Exchange:
    """One request with its response; a message where ``response_bytes`` is 0.

    ``start_ns`` is when the application wanted it, which is before its connection is opened, and
    before those that it waits behind are done. ``first_ns`` and ``end_ns`` are when the first and
    the last byte of the response were read. ``slot`` is the flow's connection that it goes over.
    ``page``, ``bitrate_bps``, ``buffer_ns`` (of video, after this chunk) and ``stall_ns`` (for
    which playout stood still before it) are what web pages and video note besides.
    """

    number: int
    start_ns: int
    request_bytes: int
    response_bytes: int
    slot: int | None = None
    first_ns: int | None = None
    end_ns: int | None = None
    received_bytes: int = 0
    page: int | None = None
    bitrate_bps: int | None = None
    buffer_ns: int | None = None
    stall_ns: int | None = None

    @property
    def header(self) -> bytes:
        """The first bytes of the request."""
        return Header(self.number, self.request_bytes, self.response_bytes).to_bytes()


@dataclass(frozen=True, slots=True)
class Header:
    """What a request says of itself: its number, its size with this header, and the response's."""

    number: int
    request_bytes: int
    response_bytes: int

    def to_bytes(self) -> bytes:
        """Return it as it stands at the head of the request."""
        return _HEADER.pack(self.number, self.request_bytes, self.response_bytes)

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Return what :meth:`to_bytes` gave."""
        return cls(*_HEADER.unpack(data))


def request_stream(number: int) -> int:
    """Return the number of the byte stream that a request's content is a piece of."""
    return 2 * number


def response_stream(number: int) -> int:
    """Return the number of the byte stream that a response is a piece of."""
    return 2 * number + 1
