"""Filter expressions: what parses, what does not, and what it says then."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mptcplab import trace
from mptcplab.trace.packet_filter import FilterError, parse_filter
from mptcplab.trace.packets import packet_lines


@pytest.mark.parametrize(
    "text",
    [
        "subtype == join",
        "subflow == 2",
        "dsn in 1..5000",
        "src == 10.0.0.1 and not (syn or fin)",
        "addr == fd00::1 || len > 0 && window <= 0xffff",
        "subtype in {join, add_addr, 7}",
        "time in 1.5..2.5",
        "!retransmission",
        "ip.addr == 10.0.0.0/8 and tcp.flags.syn == 1",
        "ipv6.src in {2001:db8::/32, ::1} or tcp.flags & 0x12",
        "tcp.stream eq 3 xor tcp.port in {80, 8000..8080 443}",
        "tcp.options.mptcp.datafin.flag == True && mptcp.stream",
        "src in {10.0.0.1, 10.1.0.0/16}",
    ],
)
def test_expressions_that_parse(text: str) -> None:
    parse_filter(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("subtype = join", "equality is =="),
        ("subtype == jion", r"did you mean 'join'\?.*expected a number or one of"),
        ("subflw == 1", "did you mean 'subflow'"),
        ("retransmision", "did you mean 'retransmission'"),
        ("nonsense == 1", "expected a field"),
        ("dsn in 1", r"expected '..'"),
        ("(syn", r"expected '\)'"),
        ("syn fin", "expected 'and'"),
        ("src == 10.0.0", "cannot read"),
        ("src == 7", "expected an IP address"),
        ("len ==", "the end"),
        ("ip.addr == fd00::1", "expected an address of IPv4 for ip.addr"),
        ("src > 10.0.0.1", "expected == or != between src and an address"),
        ("src in 10.0.0.1", "a list of addresses"),
        ("ip.adr == 10.0.0.1", "did you mean 'ip.addr'"),
        ("tcp.analysis.retransmission", "expected retransmission, which we judge in our own way"),
        ("not " * 500 + "syn", "nested"),
        ("dsn == " + "9" * 5000, "expected a number for dsn"),
        ("dsn == 0x" + "f" * 5000, "expected a number for dsn"),
    ],
)
def test_expressions_that_do_not(text: str, complaint: str) -> None:
    with pytest.raises(FilterError, match=complaint):
        parse_filter(text)


CAPTURES = Path(__file__).parents[2] / "captures"


def _numbers(capture: trace.Trace, text: str) -> list[int]:
    return [int(line.split()[0]) for line in packet_lines(capture, parse_filter(text))]


def test_networks_and_presence(build: ModuleType, read: Any) -> None:
    ends = [
        ("10.0.0.1", "10.1.0.1"), ("10.0.0.2", "192.0.2.1"), ("2001:db8::1", "2001:db8:1::1"),
    ]  # fmt: skip
    packets = []
    for source, destination in ends:
        segment = build.tcp(1, 2, 3, 4, build.ACK, build.dss(1))
        is_v6 = ":" in source
        inner = (build.ipv6 if is_v6 else build.ipv4)(source, destination, segment)
        packets.append(build.ethernet(inner, 0x86DD if is_v6 else 0x0800))
    capture = read(build.pcap(packets))
    for text, expected in (
        ("src == 10.0.0.0/24", [1, 2]),
        ("addr == 10.1.0.0/16", [1]),
        ("addr == 0.0.0.0/0", [1, 2]),
        ("ip.dst != 10.0.0.0/8", [2]),
        ("addr != 10.1.0.0/16", [2, 3]),
        ("ipv6", [3]),
        ("ipv6.addr == 2001:db8:1::/48", [3]),
        ("ipv6.src == 2001:db8:1::/48", []),
        ("ipv6.src == ::/0", [3]),
        ("src in {10.0.0.1, 2001:db8::/64}", [1, 3]),
        ("token != 5", []),  # no packet has a token
    ):
        assert _numbers(capture, text) == expected, text


# What Wireshark decides in the same way; its first pass does not know mptcp.stream on a first SYN.
WIRESHARK_FILTERS = (
    "ip.addr == 10.0.0.0/16", "ip.src == 10.0.1.0/24 and tcp.len > 0", "tcp.port == 5001",
    "tcp.srcport > 40000", "tcp.flags.syn == 1", "tcp.flags.syn == 1 and tcp.flags.ack == 0",
    "tcp.flags == 0x10", "tcp.flags & 0x02", "tcp.flags.reset == 1 or tcp.flags.fin == True",
    "tcp.flags.push", "frame.number in {1..5} or frame.number == 9", "tcp.stream == 1",
    "tcp.stream > 0", "tcp.options.mptcp.subtype == 1", "tcp.options.mptcp.subtype != 2",
    "tcp.options.mptcp.recvtok", "tcp.options.mptcp.sendkey > 0x8000000000000000",
    "tcp.options.mptcp.recvkey", "tcp.options.mptcp.addrid == 1",
    "tcp.options.mptcp.rawdataack", "tcp.options.mptcp.rawdataseqno",
    "tcp.options.mptcp.datalvllen > 1000", "tcp.options.mptcp.subflowseqno < 2000",
    "tcp.options.mptcp.datafin.flag == 1", "tcp.options.mptcp.datafin.flag",
    "tcp.options.mptcp.backup.flag", "tcp.options.mptcp.version == 1",
    "tcp.options.mptcp.echo == 1", "tcp.options.mptcp.port", "tcp.options.mptcp.rst_reason",
    "tcp.options.mptcp.sendrand", "tcp.hdr_len > 32", "tcp.window_size_value < 1000",
    "tcp.seq_raw > 2000000000", "tcp.ack_raw > 2000000000", "ip.src != 10.0.1.1", "ipv6", "tcp",
    "frame.time_relative < 0.5", "not tcp.len == 0", "tcp.port != 5001", "tcp.seq < 1000",
    "tcp.ack < 1000", "tcp.window_size > 60000", "mptcp.ack < 1000", "mptcp.dss.dsn < 1000",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.program("tshark")
@pytest.mark.parametrize("name", ["addresses", "abort", "handover"])
def test_filters_choose_what_tshark_does(name: str) -> None:
    path = CAPTURES / f"{name}.pcap.gz"
    capture = trace.open(path)
    asked = ",".join(f"({text}) and tcp" for text in WIRESHARK_FILTERS)
    argv = ["tshark", "-n", "-q", "-r", str(path), "-z", f"io,stat,0,{asked}"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    (row,) = [line for line in said.splitlines() if "<>" in line]
    theirs = [int(number) for number in re.findall(r"\d+", row.split("|", 2)[2])][::2]
    ours = [len(_numbers(capture, text)) for text in WIRESHARK_FILTERS]
    assert dict(zip(WIRESHARK_FILTERS, ours, strict=True)) == dict(
        zip(WIRESHARK_FILTERS, theirs, strict=True)
    )
