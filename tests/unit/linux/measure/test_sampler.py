from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface
from typing import Any, cast

import pytest

from mptcplab.linux.measure.identity import Identities
from mptcplab.linux.measure.sampler import SocketSampler
from mptcplab.linux.probes.diag import DiagSocket, MptcpInfo, SocketSample, TcpInfo
from mptcplab.linux.traffic.flow import Connection
from mptcplab.network.topology import Channel, Host, Interface, InterfaceEnd, Link, Nic, Topology
from mptcplab.scenario.model import Flow

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 5001)


def topology() -> Topology:
    hosts = tuple(
        Host(
            name,
            (Nic("eth0"),),
            (Interface("eth0", "eth0", addresses=(ip_interface(f"{address}/24"),)),),
        )
        for name, address in (("a", CLIENT[0]), ("b", SERVER[0]))
    )
    ends = (InterfaceEnd("a", "eth0"), InterfaceEnd("b", "eth0"))
    return Topology("one", hosts, (), (Link("lan", *ends, Channel(), Channel()),))


class Kernel:
    """The sockets of one host as the kernel shows them."""

    def __init__(self, is_client: bool) -> None:
        self.ends = (CLIENT, SERVER) if is_client else (SERVER, CLIENT)
        self.subflows: list[SocketSample] = []
        self.connections: list[SocketSample] = []

    def tcp(self) -> list[SocketSample]:
        return self.subflows

    def mptcp(self) -> list[SocketSample]:
        return self.connections

    def subflow(self, state: str, acked: int, received: int, outstanding: int = 0) -> None:
        zero: dict[str, Any] = dict.fromkeys(TcpInfo.__slots__, 0)
        counts = {"bytes_sent": 1500, "bytes_retransmitted": 500}
        counts |= {"bytes_acked": acked, "bytes_received": received}
        info = TcpInfo(**(zero | counts))
        local, remote = self.ends
        self.subflows = [SocketSample(state, *local, *remote, outstanding, 0, 0, tcp=info, token=7)]

    def connection(self, state: str, sent: int, acked: int) -> None:
        info = MptcpInfo(7, False, 1, 0, 0, 0, 0, sent, 8, acked)
        local, remote = self.ends
        self.connections = [SocketSample(state, *local, *remote, 0, 0, 0, mptcp=info)]


def sampler(is_client: bool) -> tuple[Kernel, SocketSampler, Connection]:
    connection = Connection(Flow("main", "a", "b"), 0, 5001)
    identities = Identities(topology())
    identities.add([connection])
    kernel = Kernel(is_client)
    host = "a" if is_client else "b"
    return kernel, SocketSampler(host, cast(DiagSocket, kernel), identities), connection


@pytest.mark.parametrize(
    ("is_client", "state", "acked", "received"),
    [
        (True, "SYN-SENT", 0, 0),
        (True, "ESTABLISHED", 1001, 8),
        (True, "FIN-WAIT-1", 1001, 8),
        (True, "FIN-WAIT-2", 1002, 8),
        (True, "CLOSE-WAIT", 1001, 9),
        (False, "ESTABLISHED", 1000, 8),
        (False, "LAST-ACK", 1000, 9),
        (False, "CLOSING", 1000, 9),
    ],
)
def test_neither_syn_nor_fin_counts(is_client: bool, state: str, acked: int, received: int) -> None:
    """As a 6.18 kernel counts: the opener's SYN when acknowledged, a FIN in either direction."""
    kernel, sockets, _ = sampler(is_client)
    kernel.subflow(state, acked, received)
    (row,), _, _ = sockets.sample(5)
    expected = (0, 0) if state == "SYN-SENT" else (1000, 8)
    assert (row["bytes_acked"], row["bytes_received"]) == expected
    assert (row["bytes_sent"], row["bytes_retransmitted"]) == (1500, 500)


def test_a_data_fin_does_not_count() -> None:
    kernel, sockets, _ = sampler(True)
    for acked, expected in ((900, 900), (1000, 1000), (1001, 1000)):
        kernel.connection("FIN-WAIT-1", 1000, acked)
        _, (row,), _ = sockets.sample(5)
        assert (row["bytes_acked"], row["unacked_bytes"]) == (expected, 1000 - expected)


def test_sockets_that_a_program_has_for_one_connection_are_one_row() -> None:
    kernel, sockets, _ = sampler(True)
    kernel.subflow("ESTABLISHED", 1001, 8)
    (first,) = kernel.subflows
    plain = replace(first, token=None, send_buffer_bytes=300)
    kernel.subflows = [plain, replace(plain, local_port=40009)]
    subflows, (row,), received = sockets.sample(5)
    assert sorted(each["subflow"] for each in subflows) == [0, 1]
    assert (row["subflows"], row["bytes_acked"], row["bytes_received"]) == (2, 2000, 16)
    assert (row["token"], row["send_buffer_bytes"]) == (None, 600)
    assert received == {5001: 16}


def test_what_is_outstanding_is_told_of_a_fresh_sample_only() -> None:
    kernel, sockets, connection = sampler(True)
    kernel.subflow("ESTABLISHED", 1, 0, outstanding=700)
    assert sockets.outstanding(connection, 5) is None
    sockets.sample(5)
    assert sockets.outstanding(connection, 5) == {"lan"}
    assert sockets.outstanding(connection, 6) is None
    kernel.subflow("ESTABLISHED", 701, 0)
    sockets.present_subflows()  # asks the kernel, and is no sample
    sockets.sample(6)
    assert sockets.outstanding(connection, 6) == set()


@pytest.mark.parametrize("is_client", [True, False])
def test_subflows_to_a_port_that_the_server_announced_are_known_by_their_token(
    is_client: bool,
) -> None:
    """With ``ndiffports`` the further subflows go to ports of their own, which no flow has."""
    kernel, sockets, _ = sampler(is_client)
    kernel.subflow("ESTABLISHED", 1001, 8)
    (first,) = kernel.subflows
    further = replace(
        first,
        remote_port=40001 if is_client else first.remote_port,
        local_port=first.local_port if is_client else 40001,
    )
    stranger = replace(further, token=8)
    kernel.subflows = [stranger, further, first]  # in the order of no rule
    rows, _, _ = sockets.sample(5)
    assert [(row["flow"], row["link"]) for row in rows] == [("main", "lan"), ("main", "lan")]
    assert sorted(row["subflow"] for row in rows) == [0, 1]
