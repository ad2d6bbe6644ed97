"""pcapng as the specification has it: every kind of block, option, resolution and byte order."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mptcplab import trace
from mptcplab.trace.files.capture import CaptureFile

START_NS = 1_700_000_000_123_456_789


class Section:
    """Writes the blocks of a section (draft-ietf-opsawg-pcapng)."""

    def __init__(self, order: str = "<", options: bytes = b"") -> None:
        self.order = order
        self.bytes = b""
        self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, 1, 0, -1) + options)

    def pack(self, form: str, *values: int) -> bytes:
        return struct.pack(self.order + form, *values)

    def option(self, code: int, value: bytes) -> bytes:
        return self.pack("HH", code, len(value)) + value + bytes(-len(value) % 4)

    def options(self, *options: tuple[int, bytes]) -> bytes:
        return b"".join(self.option(*one) for one in options) + self.pack("HH", 0, 0)

    def block(self, kind: int, body: bytes) -> Section:
        body += bytes(-len(body) % 4)
        size = self.pack("I", 12 + len(body))
        self.bytes += self.pack("I", kind) + size + body + size
        return self

    def interface(self, *options: tuple[int, bytes], link: int = 1, snap: int = 0) -> Section:
        extra = self.options(*options) if options else b""
        return self.block(1, self.pack("HHI", link, 0, snap) + extra)

    def packet(self, data: bytes, units: int = 0, interface: int = 0, *options: Any) -> Section:
        head = self.pack("IIIII", interface, units >> 32, units & 0xFFFF_FFFF, len(data), len(data))
        extra = self.options(*options) if options else b""
        return self.block(6, head + data + bytes(-len(data) % 4) + extra)

    def old_packet(self, data: bytes, units: int, interface: int = 0) -> Section:
        head = self.pack(
            "HHIIII", interface, 7, units >> 32, units & 0xFFFF_FFFF, len(data), len(data)
        )
        return self.block(2, head + data)

    def simple_packet(self, data: bytes, snap: int = 0) -> Section:
        return self.block(3, self.pack("I", len(data)) + (data[:snap] if snap else data))


@pytest.fixture
def syn(build: ModuleType) -> bytes:
    segment = build.tcp(1024, 80, 100, 0, build.SYN, build.capable(), bytes(3))
    return bytes(build.ethernet(build.ipv4("10.0.0.1", "10.0.0.2", segment)))


def times(path: Path) -> list[int]:
    return [one for batch in CaptureFile(path).batches() for one in batch.time_ns.tolist()]


def tshark_times(path: Path) -> list[int | None]:
    argv = ["tshark", "-r", str(path), "-T", "fields", "-e", "frame.time_epoch"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True)
    found: list[int | None] = []
    for text in said.stdout.splitlines():
        if not text:  # a simple packet, or a custom block, which it numbers like packets
            found.append(None)
            continue
        seconds, _, fraction = text.partition(".")
        found.append(int(seconds) * 10**9 + int(fraction.ljust(9, "0")))
    return found


RESOLUTIONS = [None, 0, 3, 6, 7, 9, 0x80 | 0, 0x80 | 10, 0x80 | 20, 0x80 | 30]


@pytest.mark.slow
@pytest.mark.program("tshark")
def test_times_of_every_resolution(tmp_path: Path, syn: bytes) -> None:
    """An interface for each resolution and each time offset, in both byte orders."""
    data, exact = b"", []
    for order in "<>":
        section = Section(order)
        kinds = [(one, shift) for one in RESOLUTIONS for shift in (None, 0, 3600, -1_600_000_000)]
        for resolution, offset_s in kinds:
            options = [] if resolution is None else [(9, bytes([resolution]))]
            options += [] if offset_s is None else [(14, section.pack("q", offset_s))]
            section.interface(*options)
        for number, (resolution, offset_s) in enumerate(kinds):
            known = 6 if resolution is None else resolution
            per_s = 2 ** (known & 0x7F) if known & 0x80 else 10**known
            for k in range(2):
                units = (START_NS + k * 1_111_111) * per_s // 10**9
                section.packet(syn, units, number)
                exact.append(units * 10**9 // per_s + (offset_s or 0) * 10**9)
        data += section.bytes
    path = tmp_path / "x.pcapng"
    path.write_bytes(data)
    found = times(path)
    assert max(abs(a - b) for a, b in zip(found, exact, strict=True)) <= 1
    theirs = tshark_times(path)
    assert all(b is not None and abs(a - b) <= 1 for a, b in zip(found, theirs, strict=True))


def one_of_each(syn: bytes, order: str) -> Section:
    """A section with every kind of block and, in all, six packets."""
    comment = (1, b"a comment")
    section = Section(order)
    section = Section(order, section.options(comment, (4, b"wireshark")))
    section.interface((2, b"eth0"), comment, (9, b"\x09"), (11, b"\x00tcp"))
    section.interface((9, b"\x06"), link=101)
    section.packet(syn, START_NS, 0, comment, (2, section.pack("I", 1)), (4, bytes(8)))
    section.block(4, section.pack("HH", 1, 9) + bytes((10, 0, 0, 1)) + b"here\0" + bytes(3)
                  + section.pack("HH", 0, 0))  # fmt: skip
    section.packet(syn[14:], (START_NS + 1_000_000) // 1000, 1)
    section.block(5, section.pack("III", 0, 1, 2) + section.options((4, bytes(8))))
    section.old_packet(syn, START_NS + 2_000_000)
    section.block(0x0000_0BAD, section.pack("I", 32473) + b"custom")
    section.packet(syn, START_NS + 3_000_000)
    section.block(0x7777_7777, bytes(20))
    section.block(10, section.pack("II", 0x544C534B, 6) + b"secret")
    section.packet(syn, START_NS + 4_000_000, 0, comment)
    return section.simple_packet(syn)


@pytest.mark.slow
@pytest.mark.program("tshark")
def test_every_kind_of_block(tmp_path: Path, syn: bytes) -> None:
    """Sections of both byte orders in one file, each with interfaces of its own."""
    path = tmp_path / "x.pcapng"
    orders = "><<>"
    path.write_bytes(b"".join(one_of_each(syn, order).bytes for order in orders))
    capture = trace.open(path)
    assert capture.malformed == []
    assert capture.packets == capture.reading.tcp_segments == 6 * len(orders)
    found = times(path)
    # A simple packet has no time: it counts as captured with the one before it.
    assert found[5::6] == found[4::6]
    timed = [one for k, one in enumerate(found) if k % 6 < 5]
    theirs = [one for one in tshark_times(path) if one is not None]
    assert all(abs(a - b) < 1000 for a, b in zip(timed, theirs, strict=True))


def test_a_simple_packet_that_is_cut(tmp_path: Path, syn: bytes) -> None:
    section = Section().interface(snap=60).simple_packet(syn, snap=60)
    path = tmp_path / "x.pcapng"
    path.write_bytes(section.bytes)
    (batch,) = CaptureFile(path).batches()
    assert (int(batch.captured[0]), int(batch.original[0])) == (60, len(syn))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_that_ends_anywhere(tmp_path: Path, syn: bytes, order: str) -> None:
    """What is whole counts, what is not is said; never more than that."""
    section = Section(order).interface()
    whole = [len(section.bytes)]
    for k in range(3):
        section.packet(syn, k, 0, (1, b"why"))
        whole.append(len(section.bytes))
    path = tmp_path / "x.pcapng"
    for end in range(28, len(section.bytes) + 1, 3):
        path.write_bytes(section.bytes[:end])
        capture = trace.open(path)
        count = max((k for k, size in enumerate(whole) if size <= end), default=0)
        assert capture.packets == count
        cut = end not in whole and end != 28
        assert [one.number for one in capture.malformed] == ([count + 1] if cut else [])


@pytest.mark.slow
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_a_pcap_file_that_ends_anywhere(
    tmp_path: Path, build: ModuleType, syn: bytes, nanoseconds: bool
) -> None:
    data = build.pcap([syn] * 3, nanoseconds=nanoseconds)
    step = 16 + len(syn)
    path = tmp_path / "x.pcap"
    for end in range(24, len(data) + 1, 3):
        path.write_bytes(data[:end])
        capture = trace.open(path)
        count, rest = divmod(end - 24, step)
        assert capture.packets == count
        assert [one.number for one in capture.malformed] == ([count + 1] if rest else [])
