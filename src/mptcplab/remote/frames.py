"""Messages between the controller and an agent: JSON objects, each with its length before it.

Both ends bound what they take: a length or a text that cannot be a message is a FrameError, before
any of it is kept.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, Final

MARK: Final = b"\nmptcplab agent 1\n"
"""What an agent writes before its first frame; a login shell may have said something before it."""
LONGEST_BYTES: Final = 8 << 20
_LENGTH: Final = struct.Struct("!I")

Message = dict[str, Any]


class FrameError(ValueError):
    """What came is not a message; the text says why."""


def encode(message: Message) -> bytes:
    """Return a message as it goes over the line; FrameError for one that is too long."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > LONGEST_BYTES:
        raise FrameError(f"a message of {len(body)} bytes; expected {LONGEST_BYTES} at most")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Puts messages together from the bytes of a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take in what has arrived and yield the messages that are complete.

        FrameError where it cannot be one.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > LONGEST_BYTES:
                raise FrameError(
                    f"a message of {length} bytes is announced; expected {LONGEST_BYTES} at most"
                )
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield _decode(body)


def _decode(body: bytes) -> Message:
    try:
        message = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"{len(body)} bytes that are not JSON ({error})") from error
    if not isinstance(message, dict):
        raise FrameError(f"JSON of type {type(message).__name__}; expected an object")
    return message


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
