"""Usual packets decoded one at a time, by machine integers: what a compiled build does.

A packet is usual where it is Ethernet, IPv4 without options or fragments, and TCP with a whole
header of well-formed options, of which none is of MPTCP but one DSS.  All others are named, for the
steps of the layers.  Interpreted, a loop would take longer than the columns of ``segments``, which
say the same of these packets; tests run both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from librt.strings import read_i16_be, read_i32_be, read_i64_be
from librt.vecs import append, vec
from mypy_extensions import i32, i64

from mptcplab.wire.mptcp import DSS, DSS_ACK, DSS_ACK_8, DSS_DSN_8, DSS_MAP, MPTCP_KIND

COLUMNS: Final = (
    "source", "destination", "ports", "seq", "ack", "control", "window", "payload_bytes",
    "payload_at", "payload_captured", "window_scale", "mss", "ip_id", "hops", "timestamp", "echo",
)  # fmt: skip
DSS_COLUMNS: Final = ("flags", "parts", "data_ack", "dsn", "ssn", "length", "checksum")
"""The columns of the table, one after the other; those of the DSS come last."""

IS_COMPILED: Final = not __file__.endswith(".py")
"""Whether the loop is a fast one."""

_ETHERNET: Final = 1
_WIDTH: Final = 23
_PADDING: Final = 24
"""Elements between columns, lest all of them compete for the same lines of the cache."""
_LOW_16: Final = 0xFFFF
_LOW_32: Final = 0xFFFF_FFFF
_TIMESTAMPS_FIRST: Final = 0x0101080A  # NOP, NOP, timestamps


def decode_usual(
    raw: bytes,
    offsets: Iterable[int],
    captured: Iterable[int],
    original: Iterable[int],
    link_types: Iterable[int],
) -> tuple[vec[i64], vec[i64]]:
    """Decode packets that begin at ``offsets`` of ``raw``.

    Returns a table of columns, zero where a packet is not usual, and which are not.
    """
    at_of = vec[i64](offsets)
    captured_of = vec[i64](captured)
    original_of = vec[i64](original)
    link_of = vec[i32](link_types)
    count: i64 = len(at_of)
    room: i64 = count + _PADDING
    out = vec[i64]([0] * (_WIDTH * room))
    others = vec[i64]()
    k: i64 = 0
    while k < count:
        at: i64 = at_of[k]
        end: i64 = at + captured_of[k]
        tcp: i64 = at + 34
        usual: bool = link_of[k] == _ETHERNET and tcp + 20 <= end
        if usual:
            kind: i64 = i64(read_i32_be(raw, at + 12)) & _LOW_32
            fragment: i64 = i64(read_i32_be(raw, at + 20))
            usual = kind >> 8 == 0x080045 and fragment & 0x3FFF_00FF == 6
        if usual:
            total: i64 = i64(read_i16_be(raw, at + 16)) & _LOW_16
            limit: i64 = at + original_of[k]
            if limit > at + 14 + total:
                limit = at + 14 + total
            if end > limit:
                end = limit
            control: i64 = i64(read_i16_be(raw, tcp + 12)) & _LOW_16
            payload_at: i64 = tcp + (control >> 12) * 4
            usual = total >= 20 and payload_at >= tcp + 20 and payload_at <= end
            if usual:
                usual = _decode_options(raw, tcp, payload_at, out, k, room)
        if not usual:
            others = append(others, k)
            k += 1
            continue
        place: i64 = k
        out[place] = i64(read_i32_be(raw, at + 26)) & _LOW_32
        place += room
        out[place] = i64(read_i32_be(raw, at + 30)) & _LOW_32
        place += room
        out[place] = i64(read_i32_be(raw, tcp)) & _LOW_32
        place += room
        out[place] = i64(read_i32_be(raw, tcp + 4)) & _LOW_32
        place += room
        out[place] = i64(read_i32_be(raw, tcp + 8)) & _LOW_32
        place += room
        out[place] = control
        place += room
        out[place] = i64(read_i16_be(raw, tcp + 14)) & _LOW_16
        place += room
        out[place] = limit - payload_at
        place += room
        out[place] = payload_at
        place += room
        out[place] = end - payload_at
        place += 3 * room
        out[place] = i64(read_i16_be(raw, at + 18)) & _LOW_16
        place += room
        out[place] = i64(raw[at + 22])
        k += 1
    return out, others


def _decode_options(raw: bytes, tcp: i64, end: i64, out: vec[i64], k: i64, room: i64) -> bool:
    """Decode the options of one TCP header up to ``end``; False where they are not usual."""
    at: i64 = tcp + 20
    window_scale: i64 = -1
    mss: i64 = 0
    timestamp: i64 = -1
    echo: i64 = -1
    dss: i64 = 0
    if at + 12 <= end and i64(read_i32_be(raw, at)) == _TIMESTAMPS_FIRST:
        timestamp = i64(read_i32_be(raw, at + 4)) & _LOW_32
        echo = i64(read_i32_be(raw, at + 8)) & _LOW_32
        at += 12
    while at < end and raw[at] != 0:
        kind: i64 = i64(raw[at])
        if kind == 1:
            at += 1
            continue
        length: i64 = i64(raw[at + 1]) if at + 2 <= end else 0
        if length < 2 or at + length > end:
            return False
        if kind == MPTCP_KIND:
            if dss or length < 4 or i64(raw[at + 2]) >> 4 != DSS:
                return False
            dss = at
        elif kind == 2 and length == 4:
            mss = i64(read_i16_be(raw, at + 2)) & _LOW_16
        elif kind == 3 and length == 3:
            window_scale = i64(raw[at + 2])
            window_scale = window_scale if window_scale < 14 else 14  # RFC 7323 section 2.3
        at += length
    place: i64 = k + 16 * room
    if dss == 0:
        out[place] = -1
        out[place + 6 * room] = -1
    elif not _decode_dss(raw, dss, out, place, room):
        return False
    place = k + 10 * room
    out[place] = window_scale
    out[place + room] = mss
    out[place + 4 * room] = timestamp
    out[place + 5 * room] = echo
    return True


def _decode_dss(raw: bytes, at: i64, out: vec[i64], place: i64, room: i64) -> bool:
    """Decode one DSS (RFC 8684 section 3.3); False where its length does not fit its flags."""
    end: i64 = at + i64(raw[at + 1])
    flags: i64 = i64(raw[at + 3])
    parts: i64 = 0
    checksum: i64 = -1
    next_at: i64 = at + 4
    data_ack: i64 = 0
    dsn: i64 = 0
    if flags & DSS_ACK:
        parts = DSS_ACK
        if flags & DSS_ACK_8:
            if next_at + 8 > end:
                return False
            data_ack = read_i64_be(raw, next_at)
            next_at += 8
        else:
            if next_at + 4 > end:
                return False
            data_ack = i64(read_i32_be(raw, next_at)) & _LOW_32
            next_at += 4
    ssn: i64 = 0
    size: i64 = 0
    if flags & DSS_MAP:
        parts |= DSS_MAP
        if flags & DSS_DSN_8:
            if next_at + 14 > end:
                return False
            dsn = read_i64_be(raw, next_at)
            next_at += 8
        else:
            if next_at + 10 > end:
                return False
            dsn = i64(read_i32_be(raw, next_at)) & _LOW_32
            next_at += 4
        ssn = i64(read_i32_be(raw, next_at)) & _LOW_32
        size = i64(read_i16_be(raw, next_at + 4)) & _LOW_16
        next_at += 6
        if next_at + 2 == end:
            checksum = i64(read_i16_be(raw, next_at)) & _LOW_16
            next_at += 2
    if next_at != end:
        return False
    out[place] = flags
    place += room
    out[place] = parts
    place += room
    out[place] = data_ack
    place += room
    out[place] = dsn
    place += room
    out[place] = ssn
    place += room
    out[place] = size
    place += room
    out[place] = checksum
    return True
