"""What the kernel says, as text and as netlink messages, read back."""

from __future__ import annotations

import os
import socket
import struct
import threading

import pytest

from mptcplab.linux.kernel import netlink
from mptcplab.linux.monitor import parse_device_counters
from mptcplab.linux.probes import cpu, mib
from mptcplab.linux.probes.diag import parse_message
from mptcplab.linux.probes.link_state import parse_changes
from mptcplab.linux.probes.pm_events import parse_events
from mptcplab.linux.probes.rtt import internet_checksum


def test_counters_are_named_as_nstat_names_them() -> None:
    text = "Tcp: ActiveOpens RetransSegs\nTcp: 12 3\nMPTcpExt: SubflowStale\nMPTcpExt: 1\n"
    assert mib.parse_counters(text) == {
        "TcpActiveOpens": 12,
        "TcpRetransSegs": 3,
        "MPTcpExtSubflowStale": 1,
    }


def test_counters_of_icmpv6_stand_one_a_line() -> None:
    text = "Ip6InReceives                   \t9\nIcmp6InPktTooBigs               \t2\n"
    assert mib.parse_icmpv6(text) == {"Icmp6InPktTooBigs": 2}


def test_only_counters_that_moved_are_kept() -> None:
    assert mib.moved({"a": 1, "b": 2}, {"a": 1, "b": 5, "c": 1}) == {"b": (2, 5), "c": (0, 1)}


def test_each_cpu_is_as_busy_as_it_was_and_a_stolen_one_is_busy() -> None:
    before = cpu.parse_stat("cpu 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\n")
    after = cpu.parse_stat(
        "cpu 60 0 30 60 20 0 10 20 0 0\ncpu0 50 0 30 0 0 0 10 10\ncpu1 10 0 0 60 20 0 0 10\n"
    )
    busy = cpu.busy_between(before, after)
    assert busy["cpu"] == 120 / 200
    assert cpu.by_number(busy) == {0: 1.0, 1: 20 / 100}


def test_every_thread_of_a_process_is_counted() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        scheduled = cpu.scheduled_ns(os.getpid())
        assert {os.getpid(), thread.native_id} <= scheduled.keys()
        assert scheduled[os.getpid()][0] > 0
    finally:
        done.set()
        thread.join()
    assert cpu.scheduled_ns(1 << 30) == {}


def test_a_process_may_use_the_cpus_of_its_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cpu.allowed_cpus(os.getpid()) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)
    assert cpu.allowed_cpus(1 << 30) == set()


def test_device_counters() -> None:
    text = (
        "Inter-|   Receive |  Transmit\n face |bytes packets |bytes\n"
        "    lo: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n"
        "eth8.520:1000 1 0 0 0 0 0 0 2000 2 0 0 0 0 0 0\n"
    )
    assert parse_device_counters(text) == {"lo": (20, 10), "eth8.520": (2000, 1000)}


def test_checksum_of_rfc_1071() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D  # its section 3 example


def link_message(kind: int, name: str, flags: int) -> bytes:
    body = struct.pack("=BxHiII", 0, 1, 7, flags, 0) + netlink.string(3, name)
    return netlink.HEADER.pack(netlink.HEADER.size + len(body), kind, 0, 0, 0) + body


def test_interfaces_are_up_with_carrier_only() -> None:
    data = b"".join(
        [
            link_message(16, "eth0", 0x1 | 0x40),
            link_message(16, "eth1", 0x1),
            link_message(17, "eth2", 0x1 | 0x40),
        ]
    )
    assert parse_changes(data) == [("eth0", True), ("eth1", False), ("eth2", False)]


def test_a_subflow_that_closed_names_its_addresses_and_error() -> None:
    body = struct.pack("=BBH", 11, 1, 0)
    body += netlink.u32(1, 0xCAFE) + netlink.u8(3, 1) + netlink.u8(4, 2)
    body += netlink.attribute(5, socket.inet_aton("10.0.1.1"))
    body += netlink.attribute(7, socket.inet_aton("10.0.1.2"))
    body += netlink.attribute(9, struct.pack("!H", 40000)) + netlink.attribute(
        10, struct.pack("!H", 5001)
    )
    body += netlink.u8(12, 113)
    data = netlink.HEADER.pack(netlink.HEADER.size + len(body), 33, 0, 0, 0) + body
    [event] = parse_events(data, 33, now_ns=5)
    assert (event.name, event.token, event.error) == ("subflow-closed", 0xCAFE, 113)
    assert (event.local_address, event.local_port) == ("10.0.1.1", 40000)
    assert (event.remote_address, event.remote_port) == ("10.0.1.2", 5001)
    assert (event.local_id, event.remote_id) == (1, 2)
    assert parse_events(data, 34, now_ns=5) == []


@pytest.mark.parametrize(("flags", "denies"), [(None, None), (0, False), (2, False), (3, True)])
def test_the_flags_of_an_event(flags: int | None, denies: bool | None) -> None:
    values = netlink.u32(1, 7) + (b"" if flags is None else netlink.u16(13, flags))
    data = netlink.Request(33, 0, struct.pack("=BBH", 2, 1, 0) + values, "").encode(0)
    [event] = parse_events(data, 33, now_ns=5)
    assert event.denies_initial_address is denies


def diag_message(family: int, local: bytes, remote: bytes, attributes: bytes) -> bytes:
    head = struct.pack("=BBBB", family, 1, 0, 0) + struct.pack("!HH", 40000, 5001)
    addresses = local.ljust(16, b"\0") + remote.ljust(16, b"\0")
    return head + addresses + struct.pack("=III", 0, 7, 1) + bytes(20) + attributes


def test_a_subflow_of_a_mapped_address() -> None:
    info = bytearray(280)
    struct.pack_into("=III", info, 8, 204_000, 0, 1388)  # rto, ato, snd_mss
    struct.pack_into("=IIII", info, 24, 10, 2, 1, 1)  # unacked, sacked, lost, retrans
    struct.pack_into("=IIII", info, 68, 33_300, 100, 0x7FFFFFFF, 20)
    struct.pack_into("=QQ", info, 120, 1000, 2000)
    struct.pack_into("=QQ", info, 200, 3000, 40)
    struct.pack_into("=II", info, 228, 65535, 70000)
    ulp = netlink.string(1, "mptcp") + netlink.nested(
        3, netlink.u32(2, 0xBEEF), netlink.u32(8, 1 << 4), netlink.u8(10, 3)
    )
    mapped = bytes(10) + b"\xff\xff"
    data = diag_message(
        socket.AF_INET6,
        mapped + socket.inet_aton("10.0.1.1"),
        mapped + socket.inet_aton("10.0.1.2"),
        netlink.attribute(2, bytes(info)) + netlink.attribute(19, ulp),
    )
    sample = parse_message(data, is_mptcp=False)
    assert (sample.local_address, sample.local_port) == ("10.0.1.1", 40000)
    assert (sample.remote_address, sample.remote_port) == ("10.0.1.2", 5001)
    assert (sample.token, sample.backup, sample.local_id) == (0xBEEF, True, 3)
    assert sample.state == "ESTABLISHED"
    tcp = sample.tcp
    assert tcp is not None
    assert tcp.cwnd_bytes == 20 * 1388
    assert tcp.ssthresh_bytes is None
    assert (tcp.srtt_ns, tcp.rto_ns) == (33_300_000, 204_000_000)
    assert tcp.in_flight_bytes == 8 * 1388
    assert (tcp.bytes_acked, tcp.bytes_received, tcp.bytes_sent) == (1000, 2000, 3000)
    assert (tcp.send_window_bytes, tcp.receive_window_bytes) == (65535, 70000)


def test_a_connection_that_fell_back() -> None:
    info = bytearray(96)
    struct.pack_into("=IIQQQ", info, 8, 1, 0xCAFE, 500, 400, 300)
    struct.pack_into("=QQQQ", info, 48, 5, 1000, 2000, 900)
    info[80] = 3
    memory = struct.pack("=9I", 0, 1 << 20, 0, 1 << 21, 0, 0, 0, 0, 0)
    data = diag_message(
        socket.AF_INET,
        socket.inet_aton("10.0.1.1"),
        socket.inet_aton("10.0.1.2"),
        netlink.attribute(2, bytes(info)) + netlink.attribute(7, memory),
    )
    sample = parse_message(data, is_mptcp=True)
    assert (sample.receive_buffer_bytes, sample.send_buffer_bytes) == (1 << 20, 1 << 21)
    mptcp = sample.mptcp
    assert mptcp is not None
    assert (mptcp.token, mptcp.fallback, mptcp.subflows) == (0xCAFE, True, 3)
    assert (mptcp.bytes_sent, mptcp.bytes_received, mptcp.bytes_acked) == (1000, 2000, 900)
