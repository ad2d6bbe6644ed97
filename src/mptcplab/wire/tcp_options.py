"""TCP options: the option bytes of a header to the attributes of a ``Segment``, and back."""

from __future__ import annotations

import struct
from typing import Final

from mptcplab.wire.error import WireError
from mptcplab.wire.mptcp import MPTCP_KIND, MptcpOption
from mptcplab.wire.mptcp_decode import decode_mptcp
from mptcplab.wire.segment import MAX_OPTION_BYTES, MalformedOption, RawOption, Segment

END_OF_OPTIONS: Final = 0  # RFC 9293 section 3.2
NO_OPERATION: Final = 1
MSS: Final = 2
WINDOW_SCALE: Final = 3  # RFC 7323 section 2.2
SACK_PERMITTED: Final = 4  # RFC 2018 section 2
SACK: Final = 5  # RFC 2018 section 3
TIMESTAMPS: Final = 8  # RFC 7323 section 3.2

_TIMESTAMPS: Final = struct.Struct(">BBII")
_SACK_BLOCK: Final = struct.Struct(">II")
_PADDING: Final = (b"", b"\x01", b"\x01\x01", b"\x01\x01\x01")


def encode_options(segment: Segment) -> bytes:
    """Return the options of a segment, padded to a multiple of four bytes.

    The padding (NOPs) comes first, so that a lone timestamp has the layout of RFC 7323 appendix A
    that receivers recognise quickly. Raises ``WireError`` when the options take more than 40 bytes.
    """
    parts: list[bytes] = []
    if segment.mss is not None:
        parts.append(b"\x02\x04" + _field(segment.mss, 2, "MSS"))
    if segment.sack_permitted:
        parts.append(b"\x04\x02")
    if segment.ts_val is not None:
        try:
            parts.append(_TIMESTAMPS.pack(TIMESTAMPS, 10, segment.ts_val, segment.ts_ecr))
        except struct.error:
            raise WireError(
                f"timestamps {segment.ts_val}, {segment.ts_ecr}: expected 32-bit numbers"
            ) from None
    if segment.wscale is not None:
        parts.append(b"\x03\x03" + _field(segment.wscale, 1, "window scale"))
    if segment.sack:
        parts.append(bytes((SACK, 2 + 8 * len(segment.sack))))
        for left, right in segment.sack:
            parts.append(_field(left, 4, "SACK edge") + _field(right, 4, "SACK edge"))
    for option in segment.mptcp:
        parts.append(option.encode())
    for raw in segment.raw_options:
        parts.append(raw.raw)
    body = b"".join(parts)
    padded = _PADDING[-len(body) & 3] + body
    if len(padded) > MAX_OPTION_BYTES:
        raise WireError(
            f"the TCP options take {len(padded)} bytes, expected at most {MAX_OPTION_BYTES}"
        )
    return padded


def _field(value: int, size: int, what: str) -> bytes:
    if value < 0 or value >> (8 * size):
        raise WireError(f"{what} is {value}, expected an unsigned number of {size} bytes")
    return value.to_bytes(size, "big")


def decode_options(segment: Segment, options: bytes) -> None:
    """Set the option attributes of ``segment`` from the bytes after the fixed TCP header.

    Options that break their format go to ``segment.malformed`` and are otherwise ignored; after an
    impossible length byte the rest is ignored (RFC 9293 section 3.1, MUST-7).
    """
    end = len(options)
    offset = 0
    mptcp: list[MptcpOption] = []
    malformed: list[MalformedOption] = []
    raw_options: list[RawOption] = []
    while offset < end:
        kind = options[offset]
        if kind == NO_OPERATION:
            offset += 1
            continue
        if kind == END_OF_OPTIONS:
            break
        size = options[offset + 1] if offset + 1 < end else 0
        if size < 2 or offset + size > end:
            rest = options[offset:]
            reason = f"length byte {size} with {len(rest)} bytes left"
            if offset + 1 == end:
                reason = "the header ends before the length byte"
            malformed.append(MalformedOption(kind, _subtype(kind, rest), rest, reason))
            break
        raw = options[offset : offset + size]
        offset += size
        if kind == TIMESTAMPS and size == 10:
            segment.ts_val = int.from_bytes(raw[2:6], "big")
            segment.ts_ecr = int.from_bytes(raw[6:10], "big")
        elif kind == MPTCP_KIND:
            decoded = decode_mptcp(raw)
            if isinstance(decoded, MptcpOption):
                mptcp.append(decoded)
            else:
                malformed.append(MalformedOption(kind, _subtype(kind, raw), raw, decoded))
        elif not _decode_plain(segment, kind, raw):
            if kind in _EXPECTED_LENGTH:
                reason = f"length {size}, expected {_EXPECTED_LENGTH[kind]}"
                malformed.append(MalformedOption(kind, None, raw, reason))
            else:
                raw_options.append(RawOption(kind, raw))
    if mptcp:
        segment.mptcp = tuple(mptcp)
    if malformed:
        segment.malformed = tuple(malformed)
    if raw_options:
        segment.raw_options = tuple(raw_options)


_EXPECTED_LENGTH: Final = {
    MSS: "4",
    WINDOW_SCALE: "3",
    SACK_PERMITTED: "2",
    SACK: "10, 18, 26 or 34",
    TIMESTAMPS: "10",
}


def _subtype(kind: int, raw: bytes) -> int | None:
    return raw[2] >> 4 if kind == MPTCP_KIND and len(raw) > 2 else None


def _decode_plain(segment: Segment, kind: int, raw: bytes) -> bool:
    """Decode the options that are seldom on data segments; whether it was one, well formed."""
    size = len(raw)
    if kind == SACK and size >= 10 and size % 8 == 2:
        segment.sack = tuple(_SACK_BLOCK.iter_unpack(raw[2:]))
    elif kind == MSS and size == 4:
        segment.mss = raw[2] << 8 | raw[3]
    elif kind == WINDOW_SCALE and size == 3:
        segment.wscale = raw[2]
    elif kind == SACK_PERMITTED and size == 2:
        segment.sack_permitted = True
    else:
        return False
    return True
