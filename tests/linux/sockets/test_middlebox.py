"""Kernel to kernel over TUN devices: what the boxes do, seen by an MPTCP we did not write."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from tests.linux.sockets.boxed_devices import Gate, box

from mptcplab.middleboxes import Middlebox

if TYPE_CHECKING:
    from tests.linux.sockets.conftest import Lab, Relayed

pytestmark = [pytest.mark.kernel, pytest.mark.program("ip", "tc", "nsenter")]

SIZE = 3_000_000


def connect(lab: Lab, relayed: Relayed, address: str = "10.1.0.2") -> tuple[socket.socket, ...]:
    listener = relayed.right.listener("::" if ":" in address else "0.0.0.0")
    client = relayed.left.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    lab.closing(listener)
    lab.closing(client)
    client.connect((address, 5001))
    server, _ = listener.accept()
    server.settimeout(30)
    lab.closing(server)
    return client, server


@pytest.mark.slow
@pytest.mark.parametrize("address", ["10.1.0.2", "fd00:1::2"])
@pytest.mark.parametrize(
    "boxes",
    [
        [],
        [box("split", size_bytes=700)],
        [box("randomise-sequence")],
        [box("randomise-sequence"), box("split", size_bytes=1000), box("randomise-sequence")],
    ],
    ids=["nothing", "split", "sequence", "chain"],
)
def test_harmless_boxes_leave_mptcp_alone(lab: Lab, boxes: list[Middlebox], address: str) -> None:
    relayed = lab.relayed(boxes)
    client, server = connect(lab, relayed, address)
    lab.transfer(client, server, lab.pattern(SIZE))
    lab.transfer(server, client, lab.pattern(SIZE, 1))
    assert lab.info(client)["fallback"] == 0
    assert not relayed.left.unprovoked()
    assert not relayed.right.unprovoked()


def test_translated_addresses_leave_mptcp_alone(lab: Lab) -> None:
    relayed = lab.relayed([box("nat", outside=IPv4Address("10.1.0.77"))])
    client, server = connect(lab, relayed)
    assert server.getpeername()[0] == "10.1.0.77"
    lab.transfer(client, server, lab.pattern(SIZE))
    assert lab.info(client)["fallback"] == 0


def test_stripped_capability_is_fallback(lab: Lab) -> None:
    relayed = lab.relayed([box("strip", options=("MP_CAPABLE",))])
    client, server = connect(lab, relayed)
    lab.transfer(client, server, lab.pattern(SIZE))
    assert lab.info(client)["fallback"] == 1
    assert "MPCapableFallbackSYNACK" in relayed.left.counters()


def test_stripped_mappings_are_fallback(lab: Lab) -> None:
    relayed = lab.relayed(
        [box("strip", options=("DSS", "MP_CAPABLE"), segments=("ACK", "data", "FIN", "RST"))]
    )
    client, server = connect(lab, relayed)
    lab.transfer(client, server, lab.pattern(SIZE))
    assert lab.info(server)["fallback"] == 1


def test_a_rewritten_payload_passes_unnoticed_without_checksum(lab: Lab) -> None:
    relayed = lab.relayed([box("rewrite", direction="forward", after_bytes=100_000, times=1)])
    client, server = connect(lab, relayed)
    with pytest.raises(AssertionError):
        lab.transfer(client, server, lab.pattern(SIZE))


def test_a_rewritten_payload_fails_the_checksum(lab: Lab) -> None:
    relayed = lab.relayed([box("rewrite", direction="forward", after_bytes=100_000, times=1)])
    relayed.left.sysctl("net.mptcp.checksum_enabled", 1)
    client, server = connect(lab, relayed)
    assert lab.info(client)["csum_enabled"] == 1
    lab.worker(lambda: server.recv(SIZE, socket.MSG_WAITALL))
    lab.worker(lambda: client.sendall(lab.pattern(SIZE)))
    lab.eventually(lambda: "MPFailRx" in relayed.left.counters(), "MP_FAIL")
    assert relayed.right.counters()["DataCsumErr"] == 1


def test_merged_packets_keep_the_stream(lab: Lab) -> None:
    merge = box("merge", size_bytes=4000)
    relayed = lab.relayed([box("split", size_bytes=1000), merge])
    client, server = connect(lab, relayed)
    lab.transfer(client, server, lab.pattern(SIZE))
    assert merge.tallies[True].changed > 0


def test_a_closed_gate_drops_and_an_opened_one_recovers(lab: Lab) -> None:
    gate = Gate()
    relayed = lab.relayed([gate])
    client, server = connect(lab, relayed)
    gate.closed = True
    client.send(b"held back")
    while not gate.dropped:
        os.sched_yield()
    gate.closed = False
    assert server.recv(100) == b"held back"
