"""ICMP and ICMPv6 errors: which segment they are about, and what they say of it."""

from __future__ import annotations

import socket
import struct

import pytest

from mptcplab.wire.error import WireError
from mptcplab.wire.icmp import Problem, decode_icmp_error
from mptcplab.wire.packet import encode_packet
from mptcplab.wire.segment import ACK, Segment

ENDS = {
    4: (socket.inet_aton("10.0.0.1"), socket.inet_aton("10.0.0.2")),
    6: (socket.inet_pton(socket.AF_INET6, "fd00::1"), socket.inet_pton(socket.AF_INET6, "fd00::2")),
}


def quoted(version: int) -> bytes:
    src, dst = ENDS[version]
    return encode_packet(
        Segment(src, 1000, dst, 80, seq=0xFFFF_FFF0, flags=ACK, payload_bytes=1400)
    )


def message(version: int, kind: int, code: int, rest: int, quote: bytes) -> bytes:
    return struct.pack("!BBHI", kind, code, 0, rest) + quote


@pytest.mark.parametrize(
    ("version", "kind", "code", "problem"),
    [
        (4, 3, 0, Problem.NO_ROUTE),
        (4, 3, 1, Problem.HOST),
        (4, 3, 2, Problem.PROTOCOL),
        (4, 3, 3, Problem.PORT),
        (4, 3, 4, Problem.TOO_BIG),
        (4, 3, 13, Problem.PROHIBITED),
        (4, 11, 0, Problem.TIME_EXCEEDED),
        (4, 12, 0, Problem.PARAMETER),
        (6, 1, 0, Problem.NO_ROUTE),
        (6, 1, 1, Problem.PROHIBITED),
        (6, 1, 3, Problem.HOST),
        (6, 1, 4, Problem.PORT),
        (6, 2, 0, Problem.TOO_BIG),
        (6, 3, 0, Problem.TIME_EXCEEDED),
        (6, 4, 1, Problem.PARAMETER),
    ],
)
def test_an_error_names_the_segment_and_what_became_of_it(
    version: int, kind: int, code: int, problem: Problem
) -> None:
    error = decode_icmp_error(message(version, kind, code, 1280, quoted(version)[:68]), version)
    assert error is not None
    src, dst = ENDS[version]
    assert (error.src, error.src_port, error.dst, error.dst_port) == (src, 1000, dst, 80)
    assert error.seq == 0xFFFF_FFF0
    assert error.problem is problem
    assert error.mtu_bytes == (1280 if problem is Problem.TOO_BIG else 0)


@pytest.mark.parametrize(
    ("version", "kind", "code"),
    [(4, 8, 0), (4, 0, 0), (4, 5, 0), (4, 3, 16), (6, 128, 0), (6, 1, 9)],
)
def test_other_messages_are_no_errors(version: int, kind: int, code: int) -> None:
    assert decode_icmp_error(message(version, kind, code, 0, quoted(version)), version) is None


def test_errors_about_other_protocols_and_later_fragments_are_left_out() -> None:
    udp = bytearray(quoted(4))
    udp[9] = 17
    assert decode_icmp_error(message(4, 3, 4, 1280, bytes(udp)), 4) is None
    fragment = bytearray(quoted(4))
    fragment[7] = 100
    assert decode_icmp_error(message(4, 3, 4, 1280, bytes(fragment)), 4) is None


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [0, 7, 8, 20, 35])
def test_an_error_that_is_cut_short_is_one_clear_error(version: int, length: int) -> None:
    whole = message(
        version, 3 if version == 4 else 2, 4 if version == 4 else 0, 1280, quoted(version)
    )
    with pytest.raises(WireError, match="ICMP"):
        decode_icmp_error(whole[:length], version)
