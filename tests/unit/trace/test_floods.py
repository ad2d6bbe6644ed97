"""Captures made to exhaust: their cost grows with the number of packets, not faster."""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from tests.keys import KEY_A, KEY_B

from mptcplab.trace.files import capture as capture_file
from mptcplab.trace.follow import flow_table, mappings
from mptcplab.trace.output.explain import explanation
from mptcplab.trace.output.tables import tables


def _timed(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _joins(build: ModuleType, count: int) -> bytes:
    """One connection, and SYNs that want to join it, each from an address of its own."""
    token = hashlib.sha256(struct.pack(">Q", KEY_B)).digest()[:4]
    ends = ("10.0.0.1", "192.0.2.1")

    def packet(source: str, destination: str, *rest: Any) -> bytes:
        return bytes(build.ethernet(build.ipv4(source, destination, build.tcp(*rest))))

    packets = [
        packet(*ends, 1024, 80, 100, 0, build.SYN, build.capable()),
        packet(*ends[::-1], 80, 1024, 500, 101, build.SYN | build.ACK, build.capable(KEY_B)),
        packet(*ends, 1024, 80, 101, 501, build.ACK, build.capable(KEY_A, KEY_B)),
    ]
    for k in range(count):
        join = bytes((30, 12, 0x10, 1)) + token + struct.pack(">I", k)
        source = f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}"
        packets.append(packet(source, ends[1], 2000, 80, k, 0, build.SYN, join))
    return bytes(build.pcap(packets))


@pytest.mark.slow
def test_many_joins_to_one_connection(build: ModuleType, read: Any) -> None:
    few, many = (_joins(build, count) for count in (1000, 8000))
    traces: list[Any] = []

    def whole(data: bytes) -> None:
        traces.append(read(data))
        assert len(list(explanation(traces[-1]))) < 600

    whole(few)  # whatever is done once
    short, long = _timed(lambda: whole(few)), _timed(lambda: whole(many))
    assert len(traces[-1].connections) == 1
    assert len(traces[-1].subflows) == 8001
    assert long < 8 * 4 * max(short, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("version", [0, 1])
def test_a_flood_of_connections(build: ModuleType, read: Any, version: int) -> None:
    packets = []
    for k in range(3000):
        option = build.capable(*((k,) if version == 0 else ()), version=version)
        segment = build.tcp(1024 + k, 80, k, 0, build.SYN, option)
        packets.append(build.ethernet(build.ipv4("10.0.0.1", "192.0.2.1", segment)))
    capture = read(build.pcap(packets))
    assert len(capture.connections) == 3000
    assert capture.malformed == []
    lines = list(explanation(capture))
    assert "3,000 connections, 3,000 with an incomplete handshake; 0 B of data" in lines
    assert lines[-1] == "and 2,950 more; --limit 3000 shows all"


def test_a_capture_of_a_century(build: ModuleType, read: Any) -> None:
    """Bins and intervals grow where there would be too many of them."""
    packets = [
        build.ethernet(
            build.ipv4(
                "10.0.0.1", "10.0.0.2",
                build.tcp(1, 2, 100 * k, 1, build.ACK, build.dss(1, 100 * k, 1, 9000), bytes(100)),
            )
        )
        for k in range(30)
    ]  # fmt: skip
    data = bytearray(build.pcap(packets))
    struct.pack_into("<I", data, 24, 1)
    struct.pack_into("<I", data, len(data) - 16 - len(packets[-1]), 0xFFFF_FFF0)
    capture = read(bytes(data))
    assert capture.last_ns - capture.first_ns > 4e18
    assert any("Connection 0" in line for line in explanation(capture))
    assert 0 < tables(capture)["flows"].num_rows <= 1_000_000


def test_acknowledgements_a_century_late(build: ModuleType, read: Any) -> None:
    """Times of eight round trips then need more than 64 bits."""
    rows = []
    for k in range(6):
        data = build.dss(1, 100 * k, 1 + 100 * k, 100)
        there = build.tcp(1024, 80, 1 + 100 * k, 1, build.ACK, data, bytes(100))
        back = build.tcp(80, 1024, 1, 101 + 100 * k, build.ACK, build.dss(100 * k + 100))
        rows.append((1 + k, build.ethernet(build.ipv4("10.0.0.1", "10.0.0.2", there))))
        rows.append((0xF000_0000 + k, build.ethernet(build.ipv4("10.0.0.2", "10.0.0.1", back))))
    data = bytes(build.pcap([])) + b"".join(
        struct.pack("<IIII", seconds, 0, len(packet), len(packet)) + packet
        for seconds, packet in sorted(rows)
    )
    (limit,) = read(data).limits
    assert limit.share == 1


@pytest.mark.slow
def test_many_flows_without_a_start(build: ModuleType, read: Any) -> None:
    """Each is compared with the few that are like it."""

    def flows(count: int) -> bytes:
        packets = []
        for k in range(count):
            source = f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}"
            for n in range(2):
                option = build.dss(7, (k << 40) + 100 * n, 1 + 100 * n, 100)
                segment = build.tcp(9, 80, 5000 + 100 * n, 1, build.ACK, option, bytes(100))
                packets.append(build.ethernet(build.ipv4(source, "192.0.2.1", segment)))
        return bytes(build.pcap(packets))

    few, many = flows(150), flows(1200)
    assert len(read(few).connections) == 150
    short, long = _timed(lambda: read(few)), _timed(lambda: read(many))
    assert long < 8 * 4 * max(short, 0.05)


def test_segments_that_take_turns_between_subflows(
    build: ModuleType, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No two of a subflow's segments follow each other in data; the extents kept are bounded."""
    monkeypatch.setattr(mappings, "MAX_EXTENTS", 1000)
    monkeypatch.setattr(capture_file, "BATCH_PACKETS", 500)
    packets = []
    for k in range(4000):
        source = ("10.0.0.1", "10.0.1.1")[k % 2]
        place = 1 + k // 2 * 100
        mapping = build.dss(5, (1 << 50) + k * 100, place, 100)
        segment = build.tcp(4000, 80, 7 + place, 1, build.ACK, mapping, bytes(100))
        packets.append(build.ethernet(build.ipv4(source, "192.0.2.1", segment)))
    capture = read(build.pcap(packets))
    halves = [half for subflow in capture.subflows for half in subflow.halves]
    kept = sum(int(half.extents["bytes"].sum()) for half in halves)
    unplaced = sum(half.unplaced_bytes for half in halves)
    assert len(capture.reading.mappings.extents()) <= 1500
    assert kept + unplaced == sum(half.bytes for half in halves) == 400_000
    assert any("too many to keep" in line for line in explanation(capture))


def test_flows_beyond_the_limit_are_counted(
    build: ModuleType, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_table, "MAX_FLOWS", 100)
    capture = read(_joins(build, 300))
    joins = len(capture.subflows) - 1
    assert 90 < joins < 100
    assert capture.reading.placer.table.ignored_segments == 300 - joins


def test_data_in_the_handshake_of_a_flow_beyond_the_limit(
    build: ModuleType, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An MP_CAPABLE that maps data on a flow that is not followed, beside a followed segment."""
    monkeypatch.setattr(flow_table, "MAX_FLOWS", 1)
    monkeypatch.setattr(capture_file, "BATCH_PACKETS", 2)
    first = bytes((30, 22, 1, 1)) + struct.pack(">QQH", KEY_A, KEY_B, 5)
    syn = build.tcp(1024, 80, 100, 0, build.SYN, build.capable())
    data = build.tcp(2048, 80, 101, 501, build.ACK, first, b"first")
    ack = build.tcp(1024, 80, 101, 501, build.ACK, build.capable(KEY_A, KEY_B))
    packets = [
        build.ethernet(build.ipv4("10.0.0.1", "10.0.0.2", one)) for one in (syn, syn, data, ack)
    ]
    capture = read(build.pcap(packets))
    assert [subflow.source_port for subflow in capture.subflows] == [1024]
    assert capture.reading.placer.table.ignored_segments == 1
