"""Captures whose packets are cut: what is there counts, what is not is no fault."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from mptcplab.trace.packet_filter import parse_filter
from mptcplab.trace.packets import packet_lines

TOKEN = 0x7BB4B715
JOIN = bytes((30, 12, 0x10, 5)) + TOKEN.to_bytes(4, "big") + bytes(4)
HEADERS = 14 + 20 + 20


def _capture(build: ModuleType, options: bytes, snap: int, flags: int) -> bytes:
    segment = build.tcp(1024, 80, 100, 1, flags, options, bytes(10))
    packet = build.ethernet(build.ipv4("10.0.0.1", "10.0.0.2", segment))
    return bytes(build.pcap([packet], snap=snap))


@pytest.mark.parametrize("kept", range(-20, 3))
def test_nothing_is_left_of_the_option(build: ModuleType, read: Any, kept: int) -> None:
    capture = read(_capture(build, JOIN, HEADERS + kept, build.SYN))
    assert capture.malformed == []
    assert capture.connections == []
    assert capture.reading.decoder.cut_off == (kept < 0)


@pytest.mark.parametrize("kept", range(3, 12))
def test_a_join_that_is_cut(build: ModuleType, read: Any, kept: int) -> None:
    capture = read(_capture(build, JOIN, HEADERS + kept, build.SYN))
    (line,) = packet_lines(capture, parse_filter("subtype == join"))
    assert "cut off" in line
    (subflow,) = capture.subflows
    assert subflow.token == (TOKEN if kept >= 8 else None)
    assert subflow.address_ids[0] == (5 if kept >= 4 else None)
    assert capture.malformed == []


@pytest.mark.parametrize("kept", range(4, 28))
def test_a_data_sequence_signal_that_is_cut(build: ModuleType, read: Any, kept: int) -> None:
    capture = read(_capture(build, build.dss(7, 1000, 1, 10), HEADERS + kept, build.ACK))
    assert capture.malformed == []
    (line,) = packet_lines(capture, parse_filter("subtype == dss"))
    assert (" ack " in line.partition("mp dss")[2]) == (kept >= 12)
    assert bool(list(packet_lines(capture, parse_filter("ssn == 1")))) == (kept >= 26)


def test_keys_count_as_far_as_they_are_there(build: ModuleType, read: Any) -> None:
    options = build.capable(1, 2)
    whole, one, none = (
        read(_capture(build, options, HEADERS + kept, build.ACK)).connections[0].keys
        for kept in (20, 19, 11)
    )
    assert whole == [1, 2]
    assert one == [1, None]
    assert none == [None, None]


def test_an_option_that_is_wrong_however_it_goes_on(build: ModuleType, read: Any) -> None:
    options = bytes((30, 9, 0x10, 5)) + bytes(8)
    (damage,) = read(_capture(build, options, HEADERS + 5, build.SYN)).malformed
    assert "MP_JOIN" in damage.reason
