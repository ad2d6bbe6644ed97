"""The TCP header (RFC 9293 section 3.1) of a ``Segment``."""

from __future__ import annotations

import struct
from typing import Final

from mptcplab.wire.error import WireError
from mptcplab.wire.segment import TCP_HEADER_BYTES, Segment
from mptcplab.wire.tcp_options import decode_options, encode_options

CHECKSUM_OFFSET: Final = 16
"""Where the checksum field lies in the header."""

_HEADER: Final = struct.Struct(">HHIIHHHH")


def encode_tcp_header(segment: Segment) -> bytes:
    """Return the header with options and a zero checksum.

    Raises ``WireError`` for values that do not fit their fields.
    """
    options = encode_options(segment)
    words = (TCP_HEADER_BYTES + len(options)) >> 2
    try:
        return (
            _HEADER.pack(
                segment.src_port,
                segment.dst_port,
                segment.seq,
                segment.ack,
                words << 12 | segment.flags & 0xFFF,
                segment.window,
                0,
                0,
            )
            + options
        )
    except struct.error as error:
        raise WireError(
            f"TCP header of ports {segment.src_port}, {segment.dst_port}, seq {segment.seq}, ack "
            f"{segment.ack}, window {segment.window}: {error}"
        ) from None


def decode_tcp(
    segment: Segment, data: bytes | memoryview, start: int, end: int, captured_end: int
) -> None:
    """Fill ``segment`` from the TCP header at ``start`` of ``data``.

    ``end`` is where the IP header says that the packet ends, ``captured_end`` where the bytes at
    hand do (before ``end`` in a cut capture; the payload is then absent or short).
    Raises ``WireError`` when the header is cut or contradicts itself.
    """
    if captured_end - start < TCP_HEADER_BYTES:
        raise WireError(
            f"{captured_end - start} bytes of TCP, expected a header of at least 20 bytes"
        )
    (
        segment.src_port,
        segment.dst_port,
        segment.seq,
        segment.ack,
        offset_and_flags,
        segment.window,
        _checksum,
        _urgent,
    ) = _HEADER.unpack_from(data, start)
    header_bytes = offset_and_flags >> 12 << 2
    segment.flags = offset_and_flags & 0xFFF
    if header_bytes < TCP_HEADER_BYTES or start + header_bytes > end:
        raise WireError(
            f"TCP data offset of {header_bytes} bytes in {end - start} bytes of TCP, "
            "expected 20 or more that fit"
        )
    payload_start = start + header_bytes
    if header_bytes > TCP_HEADER_BYTES:
        options = bytes(data[start + TCP_HEADER_BYTES : min(payload_start, captured_end)])
        decode_options(segment, options)
    segment.payload_bytes = end - payload_start
    if captured_end >= end > payload_start:
        segment.payload = memoryview(data)[payload_start:end]
