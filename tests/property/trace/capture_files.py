"""Capture files by their structure: what each field may hold, sound or not, in any order."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

from hypothesis import strategies as st

_CAPTURES = Path(__file__).parents[2] / "captures"


def _captured(name: str) -> list[bytes]:
    """Return the first packets of a pcap file of the tests, as material."""
    data = gzip.decompress((_CAPTURES / f"{name}.pcap.gz").read_bytes())
    at = 24
    packets: list[bytes] = []
    while at + 16 <= len(data) and len(packets) < 20:
        size = int.from_bytes(data[at + 8 : at + 12], "little")
        packets.append(data[at + 16 : at + 16 + size])
        at += 16 + size
    return packets


PACKETS = st.one_of(
    st.binary(max_size=120), st.sampled_from(_captured("handover") + _captured("abort"))
)
LENGTHS = st.one_of(
    st.none(), st.sampled_from([0, 1, 3, 11, 12, 27, 28, 32, 2**16, 2**26, 2**32 - 1])
)
"""Of a block or record as it states it; None is the true one."""
SECTION, INTERFACE, OBSOLETE, SIMPLE, NAMES, STATISTICS, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6


def block(order: str, kind: int, body: bytes, stated: int | None, trailer: int | None) -> bytes:
    """Return a block of pcapng with the lengths that it should state."""
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    first = size if stated is None else stated
    last = first if trailer is None else trailer
    return struct.pack(f"{order}II", kind, first) + body + struct.pack(f"{order}I", last)


@st.composite
def sections(draw: st.DrawFn, order: str) -> bytes:
    """Draw a Section Header Block."""
    magic = draw(st.sampled_from([0x1A2B3C4D] * 9 + [0, 0x4D3C2B1A]))
    length = draw(st.sampled_from([-1, 0, 28, 2**63 - 1]))
    body = struct.pack(f"{order}IHHq", magic, draw(st.sampled_from([1, 0, 9])), 0, length)
    return block(order, SECTION, body, draw(LENGTHS) if draw(st.booleans()) else None, None)


@st.composite
def interfaces(draw: st.DrawFn, order: str) -> bytes:
    """Draw an Interface Description Block with options."""
    body = struct.pack(
        f"{order}HHI",
        draw(st.sampled_from([1, 101, 113, 276, 0, 147, 65535])),
        0,
        draw(st.sampled_from([0, 64, 262144, 2**32 - 1])),
    )
    for code, value in draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 2, 9, 14, 2988]),
                st.one_of(st.binary(max_size=9), st.just(b"\x06")),
            ),
            max_size=3,
        )
    ):
        stated = draw(st.sampled_from([len(value)] * 5 + [65535]))
        body += struct.pack(f"{order}HH", code, stated) + value + bytes(-len(value) % 4)
    cut = draw(st.sampled_from([len(body)] * 9 + [4]))
    return block(order, INTERFACE, body[:cut], draw(st.none() | LENGTHS), draw(st.none() | LENGTHS))


@st.composite
def packet_blocks(draw: st.DrawFn, order: str) -> bytes:
    """Draw a block of packet data, or of something else."""
    data = draw(PACKETS)
    kind = draw(st.sampled_from([ENHANCED, ENHANCED, SIMPLE, OBSOLETE, NAMES, STATISTICS, 77]))
    captured = draw(st.sampled_from([len(data)] * 5 + [0, 2**16, 2**32 - 1]))
    original = draw(st.sampled_from([captured, 2**32 - 1, 0]))
    time = draw(st.integers(0, 2**64 - 1) | st.integers(0, 2**40))
    number = draw(st.integers(0, 3) | st.just(2**32 - 1))
    if kind == SIMPLE:
        body = struct.pack(f"{order}I", original) + data
    elif kind == OBSOLETE:
        times = (time >> 32, time & 0xFFFFFFFF)
        lengths = (captured, original)
        body = struct.pack(f"{order}HHIIII", number & 0xFFFF, 0, *times, *lengths) + data
    else:
        head = (number, time >> 32, time & 0xFFFFFFFF, captured, original)
        body = struct.pack(f"{order}IIIII", *head) + data
    return block(order, kind, body, draw(st.none() | LENGTHS), draw(st.none() | LENGTHS))


@st.composite
def pcapng_files(draw: st.DrawFn) -> bytes:
    """Draw sections of blocks in either byte order, perhaps cut."""
    content = b""
    for _ in range(draw(st.integers(1, 4))):
        order = draw(st.sampled_from("<>"))
        content += draw(sections(order))
        for _ in range(draw(st.integers(0, 5))):
            content += draw(draw(st.sampled_from([interfaces, packet_blocks]))(order))
    return content[: draw(st.none() | st.integers(0, len(content)))]


@st.composite
def pcap_files(draw: st.DrawFn) -> bytes:
    """Draw a header and records in either byte order and resolution, perhaps cut."""
    order = draw(st.sampled_from("<>"))
    magic = draw(st.sampled_from([0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34]))
    link_type = draw(st.sampled_from([1, 101, 113, 276, 0, 2**32 - 1]))
    content = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link_type)
    for data in draw(st.lists(PACKETS, max_size=6)):
        captured = draw(st.sampled_from([len(data)] * 6 + [0, 2**16, 2**31, 2**32 - 1]))
        head = (draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**32 - 1)))
        original = draw(st.sampled_from([len(data), 0, 2**32 - 1]))
        content += struct.pack(f"{order}IIII", *head, captured, original) + data
    return content[: draw(st.none() | st.integers(0, len(content)))]


@st.composite
def sound_pcapng_files(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int, int]]]:
    """Draw a sound file, and the (time in us, link type, bytes) of each of its packets."""
    content, packets = b"", []
    for _ in range(draw(st.integers(1, 6))):
        order = draw(st.sampled_from("<>"))
        content += block(
            order, SECTION, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), None, None
        )
        link_types: list[int] = []
        for _ in range(draw(st.integers(0, 6))):
            if not link_types or draw(st.booleans()):
                link_types.append(draw(st.sampled_from([1, 101, 113])))
                body = struct.pack(f"{order}HHI", link_types[-1], 0, 0)
                content += block(order, INTERFACE, body, None, None)
                continue
            data = draw(st.binary(max_size=30))
            time_us = draw(st.integers(0, 2**50))
            number = draw(st.integers(0, len(link_types) - 1))
            head = (number, time_us >> 32, time_us & 0xFFFFFFFF, len(data), len(data))
            body = struct.pack(f"{order}IIIII", *head) + data
            content += block(order, ENHANCED, body, None, None)
            packets.append((time_us, link_types[number], len(data)))
    return content, packets
