"""What is wrong is reported by packet number, left out, and stops nothing else."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from mptcplab import trace

GOOD = bytes((30, 4, 1, 1))


@pytest.mark.parametrize(
    ("options", "words", "reason"),
    [
        (b"\x1e\x00\x01\x01", None, "does not fit"),
        (b"\x1e\x01\x01\x01", None, "does not fit"),
        (b"\x1e\x28\x01\x01", None, "does not fit"),
        (b"\x1e\x05\x01\x01\x00\x00\x00\x00", None, "MP_CAPABLE"),
        (b"\x1e\x0b\x10\x01" + bytes(8), None, "MP_JOIN"),
        (b"\x1e\x08\x20\x0f" + bytes(4), None, "DSS"),
        (b"\x1e\x02\x00\x00", None, "no subtype"),
        (GOOD, 4, "below 20 bytes"),
        (GOOD, 15, "longer than the packet"),
    ],
)
def test_bad_options_are_reported(
    build: ModuleType, read: Any, options: bytes, words: int | None, reason: str
) -> None:
    bad = build.tcp(1, 2, 9, 0, build.SYN, options, header_words=words)
    good = build.tcp(3, 4, 9, 0, build.SYN, GOOD)
    capture = read(
        build.pcap([build.ethernet(build.ipv4("10.0.0.1", "10.0.0.2", one)) for one in (bad, good)])
    )
    (damage,) = capture.malformed
    assert damage.number == 1
    assert reason in damage.reason
    (connection,) = capture.connections
    assert connection.subflows[0].source_port == 3


def test_bad_headers_are_reported(build: ModuleType, read: Any) -> None:
    segment = build.tcp(1, 2, 9, 0, build.SYN, GOOD)
    packet = build.ipv4("10.0.0.1", "10.0.0.2", segment)
    frames = [
        build.ethernet(b"\x55" + packet[1:]),
        build.ethernet(b"\x43" + packet[1:]),
        build.ethernet(packet[:16]),
        build.ethernet(packet[:30]),
        build.ethernet(b"\x00" * 40, 0x86DD),
        build.ethernet(packet)[:10],
        build.ethernet(packet),
    ]
    capture = read(build.pcap(frames))
    assert [one.number for one in capture.malformed] == [1, 2, 3, 4, 5, 6]
    assert len(capture.connections) == 1


def test_a_file_that_is_cut_short(build: ModuleType, read: Any) -> None:
    data = build.pcap(
        [build.ethernet(build.ipv4("10.0.0.1", "10.0.0.2", build.tcp(1, 2, 9, 0, 2, GOOD)))] * 3
    )
    capture = read(data[:-5])
    assert capture.packets == 2
    assert [one.number for one in capture.malformed] == [3]


def test_a_record_of_absurd_length(build: ModuleType, read: Any) -> None:
    data = bytearray(build.pcap([bytes(60)] * 3))
    at = 24 + 76 + 8
    data[at : at + 4] = b"\xff\xff\xff\x7f"
    capture = read(bytes(data))
    assert capture.packets == 2  # the one after it is read
    assert [one.number for one in capture.malformed] == [2]


@pytest.mark.parametrize("data", [b"", b"hello, world", b"\x1f\x8bnot gzip", b"PK\x03\x04" * 9])
def test_what_is_no_capture_is_refused(read: Any, data: bytes) -> None:
    with pytest.raises(trace.CaptureError, match="expected a pcap"):
        read(data)
