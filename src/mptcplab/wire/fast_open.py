"""The Fast Open option of TCP (RFC 7413 section 4.1.1): a cookie, or the request for one."""

from __future__ import annotations

from typing import Final

from mptcplab.wire.segment import RawOption, Segment

FAST_OPEN: Final = 34
"""The option's kind."""

MIN_COOKIE_BYTES: Final = 4
MAX_COOKIE_BYTES: Final = 16


def fast_open_option(cookie: bytes) -> RawOption:
    """Return the option with a cookie; an empty one asks for a cookie."""
    return RawOption(FAST_OPEN, bytes((FAST_OPEN, 2 + len(cookie))) + cookie)


def find_cookie(segment: Segment) -> bytes | None:
    """Return the cookie of a segment, empty where it asks for one; ``None`` without the option.

    One whose length is not allowed counts as absent (tcp_parse_fastopen_option).
    """
    for option in segment.raw_options:
        if option.kind == FAST_OPEN:
            cookie = option.raw[2:]
            size = len(cookie)
            if size == 0 or (MIN_COOKIE_BYTES <= size <= MAX_COOKIE_BYTES and size % 2 == 0):
                return cookie
    return None
