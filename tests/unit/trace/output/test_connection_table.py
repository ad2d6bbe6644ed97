"""Many connections in a table, and floods summed up."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mptcplab import trace
from mptcplab.cli import inspect as command
from mptcplab.trace.files.batch import Damage
from mptcplab.trace.output.connection_table import (
    MOST_EXPLAINED,
    SORT_KEYS,
    connection_lines,
    malformed_lines,
    summary_line,
)
from mptcplab.trace.output.explain import explanation

CAPTURES = Path(__file__).parents[3] / "captures"


def _many(build: ModuleType, read: Any, count: int) -> trace.Trace:
    """Connections of which the n-th carries n kilobytes."""
    packets = []
    for k in range(count):
        port = 1024 + k
        for seq, option, data in (
            (0, build.capable(), b""),
            (1, build.dss(1, 1, 1, 1000), bytes(1000)),
            *((1 + 1000 * n, build.dss(1, 1 + 1000 * n, 1 + 1000 * n, 1000), bytes(1000))
              for n in range(1, k)),
        ):  # fmt: skip
            flags = build.ACK if data else build.SYN
            segment = build.tcp(port, 80, seq, 0, flags, option, data)
            packets.append(build.ethernet(build.ipv4("10.0.0.1", "10.0.0.2", segment)))
    capture: trace.Trace = read(build.pcap(packets))
    assert len(capture.connections) == count
    return capture


def test_more_than_ten_connections_are_a_table(build: ModuleType, read: Any) -> None:
    few, many = (_many(build, read, count) for count in (MOST_EXPLAINED, MOST_EXPLAINED + 1))
    assert sum(line.startswith("Connection ") for line in explanation(few)) == MOST_EXPLAINED
    lines = list(explanation(many))
    assert not any(line.startswith("Connection ") for line in lines)
    assert lines[-1 - len(many.connections) :] == list(connection_lines(many))[2:]


def test_sorted_and_limited(build: ModuleType, read: Any) -> None:
    capture = _many(build, read, 12)
    lines = list(connection_lines(capture, "bytes", 3))
    assert [line.split()[0] for line in lines[3:6]] == ["11", "10", "9"]
    assert lines[6] == "and 9 more; --limit 12 shows all"
    first = list(connection_lines(capture))[3]
    assert first.split()[0] == "0"


@pytest.mark.parametrize("key", SORT_KEYS)
def test_every_key_sorts(key: str, build: ModuleType, read: Any) -> None:
    capture = _many(build, read, 5)
    lines = list(connection_lines(capture, key))
    assert sorted(line.split()[0] for line in lines[3:]) == ["0", "1", "2", "3", "4"]


def test_the_command_knows_the_keys() -> None:
    assert command._SORT_KEYS == SORT_KEYS


def test_the_summary() -> None:
    capture = trace.open(CAPTURES / "handover.pcap.gz")
    assert (
        summary_line(capture)
        == "1 connection, 1 complete, 1 with several subflows; 2.88 MB of data"
    )
    row = list(connection_lines(capture))[3]
    assert "78 us" in row  # the handshake


def test_a_flood_of_malformed_packets_is_a_line() -> None:
    flood = [Damage(k, f"a DSS with flags 0x{k & 15:02x} has {k} bytes") for k in range(1, 5001)]
    other = [Damage(6000, "the packet ends within its TCP header")]
    lines = list(malformed_lines([*flood, *other]))
    assert lines == [
        "5,001 malformed packets:",
        "  5,000 packets, 1 to 5000: such as: a DSS with flags 0x01 has 1 bytes",
        "  packet 6000: the packet ends within its TCP header",
    ]
