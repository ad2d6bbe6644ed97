"""Captures of our own making (``tests/captures``): what the explanation must find by itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from mptcplab import trace
from mptcplab.trace.files import capture as capture_file
from mptcplab.trace.findings.events import (
    CLOSED,
    FALLBACK,
    JOIN,
    LOST,
    NEW_ADDRESS,
    RESUMED,
    START,
    stage_events,
)
from mptcplab.trace.findings.series import direction
from mptcplab.trace.findings.stalls import HEAD_OF_LINE, find_stalls
from mptcplab.trace.output.explain import explanation
from mptcplab.trace.output.to_json import to_json
from mptcplab.trace.packet_filter import parse_filter
from mptcplab.trace.packets import packet_lines

FOLDER = Path(__file__).parents[2] / "captures"


@cache
def _open(name: str) -> trace.Trace:
    capture = trace.open(FOLDER / f"{name}.pcap.gz")
    assert capture.malformed == []
    return capture


def _only(name: str) -> trace.Connection:
    (connection,) = _open(name).connections
    return connection


def _kinds(connection: trace.Connection) -> list[str]:
    return [event.kind for event in connection.events]


def test_a_handover_is_told_in_its_stages() -> None:
    capture, connection = _open("handover"), _only("handover")
    stages = stage_events(connection)
    order = [event.kind for event in stages]
    assert order[0] == START
    assert order[-1] == CLOSED
    join = next(event for event in stages if event.kind == NEW_ADDRESS)
    lost = next(event for event in stages if event.kind == LOST)
    back = next(event for event in stages if event.kind == RESUMED)
    assert (join.subflow, lost.subflow, back.subflow) == (1, 0, 0)
    # The script: join at 1 s, failure at 2.5 s, return at 4 s, less the client's start.
    assert capture.seconds(join.time_ns) == pytest.approx(0.9, abs=0.15)
    assert capture.seconds(lost.time_ns) == pytest.approx(2.4, abs=0.15)
    assert 3.8 < capture.seconds(back.time_ns) < 6.0


def test_a_handover_delivers_every_byte_once() -> None:
    connection = _only("handover")
    assert connection.side_bytes(0) == 2_883_584  # what the server counted
    assert connection.side_bytes(1) == 7
    assert connection.subflows[1].reinjected_bytes > 0
    assert connection.subflows[1].hmac_ok is True
    series = direction(connection, 0)
    assert series is not None
    assert int(series.sent[-1]) == 2_883_584 + 1
    stalls = find_stalls(connection, series)
    assert any(stall.kind == HEAD_OF_LINE and stall.duration_ns > 10**9 for stall in stalls)


def test_addresses_come_and_go() -> None:
    connection = _only("addresses")
    texts = " ".join(event.text for event in connection.events)
    assert "announces fd00:2::2 as address ID 1" in texts
    assert "withdraws address ID 1" in texts
    assert "WRONG" not in texts
    assert connection.subflows[1].ends[1] == "[fd00:2::2]:5001"
    assert connection.side_bytes(0) == 40_960


def test_an_abort_is_a_fastclose_with_the_right_key() -> None:
    events = _only("abort").events
    closing = next(event for event in events if event.kind == CLOSED)
    assert "MP_FASTCLOSE with the right key" in closing.text


def test_checksums_are_noticed() -> None:
    connection = _only("checksums")
    assert connection.checksums is True
    assert connection.side_bytes(0) == 81_920


def test_fallback_at_the_handshake() -> None:
    connection = _only("plain-peer")
    assert connection.fallback
    assert not connection.complete_handshake
    assert FALLBACK in _kinds(connection)
    assert connection.side_bytes(0) == 8192
    assert JOIN not in _kinds(connection)


@pytest.mark.parametrize("name", ["handover", "addresses", "abort", "checksums", "plain-peer"])
def test_everything_can_be_printed(name: str) -> None:
    capture = _open(name)
    assert any("Connection 0" in line for line in explanation(capture))
    assert len(list(packet_lines(capture, None))) == capture.reading.tcp_segments


def test_json_says_all_that_the_explanation_says() -> None:
    capture = _open("handover")
    data = to_json(capture)
    assert {"packets", "malformed", "connections", "limits"} <= set(data)
    (connection,) = data["connections"]
    assert {
        "version", "tokens", "start_s", "bytes", "complete_handshake", "fallback", "subflows",
    } <= set(connection)  # fmt: skip
    assert {
        "src", "dst", "address_ids", "joined_by", "hmac_ok", "bytes", "reinjected_bytes",
        "checksums", "start_s", "end_s",
    } <= set(connection["subflows"][0])  # fmt: skip
    text = "\n".join(explanation(capture))
    told = [event["text"] for event in connection["events"] if event["text"] in text]
    assert len(told) > 5
    upload = connection["directions"][0]
    series = direction(capture.connections[0], 0)
    assert series is not None
    assert len(upload["stalls"]) == len(find_stalls(capture.connections[0], series))
    assert f"({_kilobytes(upload['reinjected_bytes'])} reinjected" in text.replace("and ", "")
    for subflow, whole in zip(connection["subflows"], capture.subflows, strict=True):
        assert subflow["handshake_s"] == whole.handshake_ns / 1e9
        (sent, _) = subflow["directions"]
        assert sent["retransmissions"] == whole.half(0).retransmissions
        assert sent["rtt"]["min_s"] == whole.half(0).least_rtt_ns / 1e9


def _kilobytes(size: int) -> str:
    return f"{size / 1000:.0f} kB"


def test_filters_pick_packets() -> None:
    capture = _open("handover")
    joins = list(packet_lines(capture, parse_filter("subtype == join and subflow == 1")))
    assert len(joins) == 3
    assert all("mp join" in line for line in joins)
    early = list(packet_lines(capture, parse_filter("dsn in 1..5000 and not retransmission")))
    assert len(early) > 4
    assert "seq 1:1425" in early[0]  # mapped by MP_CAPABLE, not by a DSS


@pytest.mark.parametrize("name", ["addresses", "checksums", "abort", "plain-peer"])
def test_batches_leave_no_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of a packet does not depend on which packets are read together with it."""
    whole = _open(name)
    said = list(packet_lines(whole, None))
    monkeypatch.setattr(capture_file, "BATCH_PACKETS", 3)
    parts = trace.open(FOLDER / f"{name}.pcap.gz")
    assert list(packet_lines(parts, None)) == said
    assert to_json(parts) == to_json(whole)
    assert list(explanation(parts)) == list(explanation(whole))
