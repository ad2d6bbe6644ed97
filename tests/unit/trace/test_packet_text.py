"""Lines put together many at a time are those that are put together one by one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mptcplab import trace
from mptcplab.trace.packet_text import Lines
from mptcplab.trace.packets import packet_batches

CAPTURES = sorted((Path(__file__).parents[2] / "captures").glob("*.pcap.gz"))


def _one_by_one(capture: trace.Trace) -> list[str]:
    """Every packet by itself, in the way of those with rare options."""
    out: list[str] = []
    for batch in packet_batches(capture):
        batch._rare = lambda chosen: np.ones(chosen.size, dtype=bool)  # type: ignore[method-assign]
        out += batch.lines(np.arange(len(batch)))
    return out


def _together(capture: trace.Trace) -> list[str]:
    return [
        line for batch in packet_batches(capture) for line in batch.lines(np.arange(len(batch)))
    ]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_of_whole_captures(path: Path) -> None:
    capture = trace.open(path)
    assert _together(capture) == _one_by_one(capture)


def test_of_packets_with_large_and_small_numbers(build: ModuleType, read: Any) -> None:
    options = [
        build.dss(5, 2**40, 7, 100),
        build.dss(None, 2**63, 1, 9),
        build.dss(2**64 - 1),
        build.dss(0, 0, 0, 0, fin=True),
        bytes((30, 14, 0x20, 0x04)) + bytes.fromhex("fffffff0 00000001 0040 abcd")[:10],
        build.capable(),
        b"",
    ]
    packets = []
    for k, option in enumerate(options * 2):
        segment = build.tcp(
            1024 + k % 2, 80, 2**32 - 5 + k & 0xFFFFFFFF, 9, build.ACK, option, b"x"
        )
        addresses = ("fd00::1", "2001:db8::1") if k % 3 else ("10.0.0.1", "255.255.255.255")
        packets.append(
            build.ethernet(build.ipv6(*addresses, segment), 0x86DD)
            if k % 3
            else build.ethernet(build.ipv4(*addresses, segment))
        )
    capture = read(build.pcap(packets, step_ns=1_234_567_000))
    assert _together(capture) == _one_by_one(capture)
    assert len(_together(capture)) == 14


@pytest.mark.parametrize("values", [[0], [9, 10, 9999, 10000, 10**8, 10**18, 0, 123456789012]])
def test_numbers(values: list[int]) -> None:
    lines = Lines(len(values))
    lines.number(np.array(values))
    lines.word(" ")
    lines.number(np.array(values), np.array(values) > 9)
    expected = "".join(f"{value} {value if value > 9 else ''}\n" for value in values)
    assert lines.text() == expected


def test_times_have_six_decimals() -> None:
    lines = Lines(3)
    lines.microseconds(np.array([0, 1_000_001, 12_345_678_901_230]))
    assert lines.text() == "0.000000\n1.000001\n12345678.901230\n"


def test_hexadecimal_digits() -> None:
    lines = Lines(3)
    lines.hexadecimal(np.array([0, 0xABCD, 0xF]), np.array([True, True, False]))
    assert lines.text() == "0000\nabcd\n\n"
