"""The answering end of a connection: requests in, one after the other, as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mptcplab.applications.exchange import HEADER_BYTES, Header, request_stream

Check = Callable[[int, int, memoryview], None]
"""Told of content: the number of its stream, the position in it, and what was read there."""


class RequestReader:
    """Finds the requests in what is read of one connection."""

    def __init__(self, check: Check) -> None:
        """Take who compares the content of requests with what was sent."""
        self._check = check
        self._head = b""
        self._header: Header | None = None
        self._position = 0

    def feed(self, data: memoryview) -> Iterator[Header]:
        """Take what was read; yield each request that is whole by then.

        Raises ValueError for what is no request.
        """
        while len(data):
            if self._header is None:
                missing = HEADER_BYTES - len(self._head)
                self._head += bytes(data[:missing])
                data = data[missing:]
                if len(self._head) < HEADER_BYTES:
                    return
                self._header = Header.from_bytes(self._head)
                self._position = HEADER_BYTES
                if self._header.request_bytes < HEADER_BYTES:
                    raise ValueError(f"a request of {self._header.request_bytes} bytes")
            header = self._header
            piece = data[: header.request_bytes - self._position]
            if len(piece):
                self._check(request_stream(header.number), self._position, piece)
            self._position += len(piece)
            data = data[len(piece) :]
            if self._position == header.request_bytes:
                self._header, self._head = None, b""
                yield header

    @property
    def is_between_requests(self) -> bool:
        """Whether what was read ends with a whole request."""
        return self._header is None and not self._head
