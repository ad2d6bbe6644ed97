"""Captures that start late, and captures of both ends."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.keys import KEY_A, KEY_B

from mptcplab.trace.files import capture as capture_file
from mptcplab.trace.findings.events import RETURNED, stage_events
from mptcplab.trace.output.explain import explain_ends
from mptcplab.trace.output.to_json import to_json
from mptcplab.trace.two_captures import are_two_ends, open_ends

HANDOVER = Path(__file__).parents[2] / "captures" / "handover.pcap.gz"


def _without_first(data: bytes, count: int) -> bytes:
    at = 24
    for _ in range(count):
        at += 16 + struct.unpack_from("<I", data, at + 8)[0]
    return data[:24] + data[at:]


@pytest.mark.parametrize("missing", [100, 400])
def test_subflows_are_brought_together_by_their_data(read: Any, missing: int) -> None:
    """100: the connection's start is missing; 400: the join's, too."""
    whole = gzip.decompress(HANDOVER.read_bytes())
    (connection,) = read(_without_first(whole, missing)).connections
    assert len(connection.subflows) == 2
    assert not connection.complete_handshake
    assert {subflow.joined_by for subflow in connection.subflows} == {"inferred"}
    (complete,) = read(whole).connections
    assert complete.subflows[1].reinjected_bytes == connection.subflows[1].reinjected_bytes


def test_strangers_stay_apart(build: ModuleType, read: Any) -> None:
    """Two data flows between the same hosts whose sequence numbers have nothing in common."""
    packets = []
    for k, base in enumerate((1 << 40, 1 << 60)):
        for n in range(3):
            option = build.dss(base, base + 7 + 100 * n, 1 + 100 * n, 100)
            segment = build.tcp(4000 + k, 80, 5000 + 100 * n, 1, build.ACK, option, bytes(100))
            packets.append(build.ethernet(build.ipv4("10.0.0.1", "10.0.0.2", segment)))
    assert len(read(build.pcap(packets)).connections) == 2


def test_two_ends_give_clock_offset_delay_and_loss(build: ModuleType, tmp_path: Path) -> None:
    """10 ms there, 10 ms back, the far clock 5 s ahead; one of three data packets is lost."""

    def packet(forward: bool, seq: int, ack: int, flags: int, option: bytes, size: int) -> bytes:
        ports = (1024, 80) if forward else (80, 1024)
        ends = ("10.0.0.1", "10.0.0.2") if forward else ("10.0.0.2", "10.0.0.1")
        segment = build.tcp(*ports, seq, ack, flags, option, bytes(size))
        return bytes(build.ethernet(build.ipv4(*ends, segment)))

    # (packet, when at the near end, when at the far end), in milliseconds
    passing: list[tuple[bytes, int, int | None]] = [
        (packet(True, 100, 0, build.SYN, build.capable(), 0), 0, 10),
        (packet(False, 500, 101, build.SYN | build.ACK, build.capable(KEY_B), 0), 20, 10),
        (packet(True, 101, 501, build.ACK, build.capable(KEY_A, KEY_B), 0), 20, 30),
    ]
    for n, far in enumerate((32, None, 36)):
        option = build.dss(0, 0x105A2AD7D0ABC3FD + 100 * n, 1 + 100 * n, 100)
        data = packet(True, 101 + 100 * n, 501, build.ACK, option, 100)
        passing.append((data, 21 + 2 * n, far))
    paths = []
    seen = {"near": [row[:2] for row in passing]}
    seen["far"] = [(data, far) for data, _, far in passing if far is not None]
    for name, ahead_ms in (("near", 0), ("far", 5000)):
        rows = sorted((when, data) for data, when in seen[name])
        out = build.pcap([])
        for when, data in rows:
            seconds, rest = divmod(1_700_000_000_000 + when + ahead_ms, 1000)
            out += struct.pack("<IIII", seconds, rest * 1000, len(data), len(data)) + data
        paths.append(tmp_path / f"{name}.pcap")
        paths[-1].write_bytes(out)
    near_end, far_end = paths[:1], paths[1:]
    assert are_two_ends(near_end, far_end)
    ends = open_ends(far_end, near_end)
    assert ends.near.paths == near_end
    assert ends.offset_ns == 5_000_000_000
    forward = next(one for one in ends.passages if one.side == 0)
    assert int(forward.delay_ns.min()) == 10_000_000
    assert (forward.lost_packets, forward.lost_bytes) == (1, 100)
    assert any("5 s ahead" in line for line in explain_ends(ends))
    data = to_json(ends.near, ends)["ends"]
    assert data["server_clock_ahead_s"] == 5
    (passage,) = [one for one in data["passages"] if one["side"] == 0]
    assert (passage["connection"], passage["lost_packets"]) == (0, 1)
    assert passage["delay"]["min_s"] == 0.01
    assert not are_two_ends(near_end, [HANDOVER])


def test_a_start_within_a_mapping_is_corrected_by_the_next(
    build: ModuleType, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every packet of a mapping repeats it; which byte it starts at is seen from the next one."""
    monkeypatch.setattr(capture_file, "BATCH_PACKETS", 1)
    packets = []
    for k in range(2, 12):  # the first two segments of the first mapping are missing
        mapping = build.dss(1, (1 << 40) + k // 4 * 4096, 1 + k // 4 * 4096, 4096)
        segment = build.tcp(4000, 80, 70_000 + k * 1024, 1, build.ACK, mapping, bytes(1024))
        packets.append(build.ethernet(build.ipv4("10.0.0.1", "192.0.2.1", segment)))
    (subflow,) = read(build.pcap(packets)).subflows
    extents = subflow.halves[0].extents
    assert extents["bytes"].tolist() == [1024] * 10
    assert (extents["dsn"] - (1 << 40)).tolist() == [k * 1024 for k in range(2, 12)]


def test_an_address_returns_on_a_new_subflow_though_the_old_one_wakes(
    build: ModuleType, read: Any
) -> None:
    """A link fails for 3 s; on its return a subflow is opened before the old one repeats itself."""
    packets = []

    def carry(source: str, port: int, piece: int, at: int) -> None:
        seq = 1 + 100 * at
        option = build.dss(1, (1 << 40) + 100 * piece, seq, 100)
        segment = build.tcp(port, 80, 5000 + seq, 1, build.ACK, option, bytes(100))
        packets.append(build.ethernet(build.ipv4(source, "10.0.0.2", segment)))

    pieces = iter(range(10_000))
    for n in range(500):
        carry("10.0.0.1", 4000, next(pieces), n)
        carry("10.0.1.1", 4001, next(pieces), n)
    for n in range(500, 3500):
        carry("10.0.1.1", 4001, next(pieces), n)
    for n in range(500):
        carry("10.0.0.1", 4002, next(pieces), n)
        if n == 5:
            carry("10.0.0.1", 4000, next(pieces), 500)
    (connection,) = read(build.pcap(packets)).connections
    (event,) = [event for event in connection.events if event.kind == RETURNED]
    assert event.subflow == 2
    assert "10.0.0.1 returns, 3.002 s after its subflow 0 last carried data" in event.text
    assert event in stage_events(connection)
