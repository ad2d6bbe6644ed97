"""Files with bytes in them that are no record: what comes after is read all the same."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trace import packets as build

from mptcplab.trace.files import capture
from mptcplab.trace.files.capture import CaptureFile
from mptcplab.wire.checksum import ones_sum

START_S = 1_700_000_000
PACKETS = 40


def frame(number: int) -> bytes:
    segment = build.tcp(1000, 2000, number, 0, build.ACK, b"", bytes(number))
    return bytes(build.ethernet(build.ipv4("10.0.0.1", "10.0.0.2", segment)))


def pcap_record(number: int) -> bytes:
    data = frame(number)
    return struct.pack("<IIII", START_S, number, len(data), len(data)) + data


def pcapng_record(number: int) -> bytes:
    data = frame(number)
    padded = data + bytes(-len(data) % 4)
    size = 32 + len(padded)
    units = START_S * 1_000_000 + number
    head = struct.pack(
        "<IIIIIII", 6, size, 0, units >> 32, units & 0xFFFFFFFF, len(data), len(data)
    )
    return head + padded + struct.pack("<I", size)


PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
PCAPNG = struct.pack("<IIIHHq", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1) + struct.pack("<I", 28)
PCAPNG += struct.pack("<IIHHII", 1, 20, 1, 0, 65535, 20)
FORMATS = {"pcap": (PCAP, pcap_record), "pcapng": (PCAPNG, pcapng_record)}
JUNK: dict[str, Callable[[int], bytes]] = {
    "random": lambda size: random.Random(size).randbytes(size),
    "text": lambda size: (b"No space left on device\n" * size)[:size],
    "zeros": bytes,
    "ones": lambda size: b"\xff" * size,
}


def opened(tmp_path: Path, content: bytes) -> tuple[list[int], CaptureFile]:
    """Return the lengths of the packets of a file, which name them."""
    path = tmp_path / "damaged"
    path.write_bytes(content)
    file = CaptureFile(path)
    lengths = [int(size) for batch in file.batches() for size in batch.captured]
    return lengths, file


@pytest.mark.parametrize("size", [1, 4, 15, 100, 4000])
@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("form", FORMATS)
def test_what_comes_after_junk_is_read(form: str, junk: str, size: int, tmp_path: Path) -> None:
    header, record = FORMATS[form]
    records = [record(number) for number in range(PACKETS)]
    between = JUNK[junk](size)
    content = header + b"".join([*records[:10], between, *records[10:]])
    lengths, file = opened(tmp_path, content)
    assert lengths == [len(frame(number)) for number in range(PACKETS)]
    (damage,) = file.damage
    assert damage.number == 11
    assert damage.reason == f"{size:,} bytes before it are no record: they are left out"


@pytest.mark.parametrize("form", FORMATS)
def test_junk_up_to_the_end_is_told_with_its_size(form: str, tmp_path: Path) -> None:
    header, record = FORMATS[form]
    content = header + b"".join(map(record, range(10))) + b"\xff" * 500
    lengths, file = opened(tmp_path, content)
    assert len(lengths) == 10
    (damage,) = file.damage
    assert (damage.number, damage.reason) == (
        11, "the file is damaged from here on: 500 bytes to its end are left out",
    )  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_junk_that_is_longer_than_a_block_is_passed_over(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_FIRST_BLOCK_BYTES", 1000)
    monkeypatch.setattr(capture, "_BLOCK_BYTES", 1000)
    header, record = FORMATS[form]
    records = [record(number) for number in range(PACKETS)]
    places = (5, 20, 30)
    for place in places:
        records[place] = b"\xff" * (3333 + place) + records[place]
    lengths, file = opened(tmp_path, header + b"".join(records))
    assert lengths == [len(frame(number)) for number in range(PACKETS)]
    assert [damage.number for damage in file.damage] == [place + 1 for place in places]
    for damage, place in zip(file.damage, places, strict=True):
        assert damage.reason.startswith(f"{3333 + place:,} bytes before it")


def _lone_record(packet: bytes, seconds: int = START_S) -> bytes:
    data = build.ethernet(packet, 0x86DD if packet[0] >> 4 == 6 else 0x0800)
    return struct.pack("<IIII", seconds, 7, len(data), len(data)) + data


def _ipv4(payload: bytes, checksum_error: int = 0) -> bytes:
    """An IPv4 packet with its checksum, or a wrong one."""
    packet = bytearray(build.ipv4("10.0.0.1", "10.0.0.2", payload))
    checksum = (~ones_sum(bytes(packet[:20])) + checksum_error) & 0xFFFF
    packet[10:12] = checksum.to_bytes(2, "big")
    return bytes(packet)


SEGMENT = build.tcp(1000, 2000, 7, 0, build.ACK, b"", bytes(777))
ALONE = {
    "IPv4": (_lone_record(_ipv4(SEGMENT)), True),
    "IPv6": (_lone_record(build.ipv6("fd00::1", "fd00::2", SEGMENT)), True),
    "wrong checksum": (_lone_record(_ipv4(SEGMENT, 1)), False),
    "too early": (_lone_record(_ipv4(SEGMENT), START_S - 100), False),
    "too late": (_lone_record(_ipv4(SEGMENT), START_S + 100), False),
    "of another length": (_lone_record(_ipv4(SEGMENT) + b"more"), False),
    "no IP": (_lone_record(bytes(800)), False),
}
"""Records between damage, and whether each proves to be one."""


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("what", ALONE)
def test_a_record_alone_between_junk_counts_where_it_proves_to_be_one(
    what: str, junk: str, tmp_path: Path
) -> None:
    record, is_read = ALONE[what]
    before, after = JUNK[junk](300), JUNK[junk](500)
    records = [pcap_record(number) for number in range(PACKETS)]
    content = PCAP + b"".join([*records[:10], before, record, after, *records[10:]])
    lengths, file = opened(tmp_path, content)
    expected = [len(frame(number)) for number in range(PACKETS)]
    damage = [(each.number, each.reason.partition(" before it ")[0]) for each in file.damage]
    if is_read:
        expected.insert(10, len(record) - 16)
        assert damage == [(11, "300 bytes"), (12, "500 bytes")]
    else:
        assert damage == [(11, f"{800 + len(record):,} bytes")]
    assert lengths == expected


def test_records_alone_up_to_the_end_are_read(tmp_path: Path) -> None:
    """The last is followed by junk, too, and two of them follow one another."""
    record, _ = ALONE["IPv4"]
    junk = b"\xff" * 500
    records = [pcap_record(number) for number in range(10)]
    content = PCAP + b"".join([*records, junk, record, junk, record, record, junk])
    lengths, file = opened(tmp_path, content)
    assert lengths[10:] == [len(record) - 16] * 3
    assert [each.number for each in file.damage] == [11, 12, 14]
    assert file.damage[-1].reason.startswith("the file is damaged from here on: 500 bytes")


def test_a_link_layer_that_is_not_read_is_told(read: Callable[..., Any]) -> None:
    from mptcplab.trace.output.connection_table import capture_lines
    from mptcplab.trace.output.to_json import to_json

    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 251)  # Bluetooth
    trace = read(header + b"".join(map(pcap_record, range(3))))
    assert "3 packets left out: LINKTYPE 251, a link layer that is not read" in "\n".join(
        capture_lines(trace)
    )
    assert to_json(trace)["packets_of_unread_link_types"] == {"251": 3}
