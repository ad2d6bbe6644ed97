"""What links do on the running kernel: rates, queues, counters, cables pulled, live changes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import pytest

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.capabilities import vlan_works
from mptcplab.linux.lab.lab import Lab, open_lab
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.network.topology import (
    Channel,
    Host,
    Interface,
    InterfaceEnd,
    Link,
    Nic,
    Queue,
    Topology,
)

pytestmark = pytest.mark.kernel

UDP_SEGMENT = 103  # include/uapi/linux/udp.h
PACKET_BYTES = 1000
FRAME_BYTES = PACKET_BYTES + 14 + 20 + 8


def on_lab(topology: Topology, work: Callable[[Lab], Any]) -> Any:
    """Run ``work`` on a lab in a supervisor of its own."""

    def run(send: object) -> Any:
        with open_lab(topology) as lab:
            return work(lab)

    return run_supervised(run)


def udp_sockets(lab: Lab, network: int = 1) -> tuple[socket.socket, socket.socket]:
    """Return a socket on "left" that is connected to one on "right", over one of the links."""
    with lab.enter("right"):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind((f"10.0.{network}.2", 7000))
        receiver.settimeout(2)
    with lab.enter("left"):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.connect((f"10.0.{network}.2", 7000))
    sender.send(b"?")  # let both sides learn their neighbours
    receiver.recv(100)
    return sender, receiver


def with_channel(topology: Topology, **changes: Any) -> Topology:
    """Return the topology with its first link changed in both directions."""
    first, *rest = topology.links
    changed = replace(
        first,
        forward=replace(first.forward, **changes),
        backward=replace(first.backward, **changes),
    )
    return replace(topology, links=(changed, *rest))


def test_the_queue_takes_exactly_its_limit(two_links: Topology) -> None:
    # 1 kb/s: what does not fit into the burst stays in the queue while we look
    limit = 20 * FRAME_BYTES
    slow = with_channel(two_links, rate_bps=1000, queue=Queue(limit_bytes=limit))

    def work(lab: Lab) -> tuple[int, int, int]:
        sender, _receiver = udp_sockets(lab)
        before = lab.link("lan1").readings()["forward"]
        for _ in range(100):
            sender.send(bytes(PACKET_BYTES))
        deadline = time.monotonic() + 5
        most_bytes = most_packets = 0
        while True:  # a busy machine is still passing on the last frames
            after = lab.link("lan1").readings()["forward"]
            sent = after.tx_packets - before.tx_packets
            assert after.queue_bytes is not None
            assert after.queue_packets is not None
            assert after.drops_queue is not None
            most_bytes = max(most_bytes, after.queue_bytes)
            most_packets = max(most_packets, after.queue_packets)
            found = sent + after.queue_packets + after.drops_queue
            if found >= 100 or time.monotonic() > deadline:
                return most_bytes, most_packets, found

    most_bytes, most_packets, found = on_lab(slow, work)
    assert most_bytes == limit
    assert most_packets == 20
    assert found >= 100  # the kernel may ask for a neighbour meanwhile


@pytest.mark.parametrize("driver", ["kernel", "tap"])
@pytest.mark.parametrize("limit", ["bytes", "packets"])
def test_a_queue_takes_the_packets_of_a_frame_that_fit(
    two_links: Topology, driver: str, limit: str
) -> None:
    if (driver, limit) == ("kernel", "packets"):
        pytest.skip("the kernel driver limits queues in bytes")
    packets = 200
    queue = Queue(limit_bytes=packets * FRAME_BYTES)
    if limit == "packets":
        queue = Queue(limit_packets=packets)
    first, *rest = with_channel(two_links, rate_bps=10_000, queue=queue).links
    slow = replace(two_links, links=(replace(first, driver=driver), *rest))

    def work(lab: Lab) -> tuple[int | None, int | None]:
        sender, _receiver = udp_sockets(lab)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, PACKET_BYTES)
        for _ in range(15):
            sender.send(bytes(24 * PACKET_BYTES))  # 8 1/3 of these fill the queue
        deadline = time.monotonic() + 5
        while True:
            reading = lab.link("lan1").readings()["forward"]
            offered = reading.tx_packets + (reading.queue_packets or 0) + (reading.drops_queue or 0)
            if offered >= 360 or time.monotonic() > deadline:
                return reading.queue_packets, reading.drops_queue

    waiting, dropped = on_lab(slow, work)
    # at 1.2 packets a second, those ahead of the frames may still be there or be gone
    assert waiting is not None
    assert packets - 2 <= waiting <= packets
    assert dropped is not None
    assert 360 - packets - 3 <= dropped <= 360 - packets + 3


def test_counters_count_packets_on_the_wire_under_offload(two_links: Topology) -> None:
    def work(lab: Lab) -> tuple[int, int]:
        with lab.enter("right"):
            listener = socket.create_server(("10.0.1.2", 7001))
        with lab.enter("left"):
            sender = socket.create_connection(("10.0.1.2", 7001))
        receiver, _ = listener.accept()
        before = lab.link("lan1").readings()["forward"]
        sender.sendall(bytes(144800))  # 100 full segments of 1448 bytes
        left = 144800
        while left:
            left -= len(receiver.recv(left))
        after = lab.link("lan1").readings()["forward"]
        return after.tx_bytes - before.tx_bytes, after.tx_packets - before.tx_packets

    tx_bytes, tx_packets = on_lab(two_links, work)
    assert 100 <= tx_packets <= 104  # segmentation may leave a few that are not full
    # a tail-loss probe may have sent a segment or two once more
    assert 144800 <= tx_bytes - tx_packets * (14 + 20 + 32) <= 144800 + 2 * 1448


def test_a_pulled_cable_takes_the_carrier_from_both_ends(two_links: Topology) -> None:
    def carriers(lab: Lab) -> list[bool]:
        return [
            rtnl.devices(lab.namespace(host).routing)["eth1"].carrier for host in ("left", "right")
        ]

    def work(lab: Lab) -> tuple[list[bool], list[bool], bytes]:
        sender, receiver = udp_sockets(lab)
        lab.link("lan1").set_up(False)
        down = carriers(lab)
        sender.send(b"lost")
        lab.link("lan1").set_up(True)
        up = carriers(lab)
        sender.send(b"back")
        return down, up, receiver.recv(100)

    assert on_lab(two_links, work) == ([False, False], [True, True], b"back")


def test_a_nic_that_returns_has_its_routes_again(two_links: Topology) -> None:
    def work(lab: Lab) -> bytes:
        sender, receiver = udp_sockets(lab)
        lab.set_nic("left", "eth1", up=False)
        with pytest.raises(OSError, match="unreachable"):
            sender.send(b"lost")
        lab.set_nic("left", "eth1", up=True)
        sender.send(b"back")
        return receiver.recv(100)

    assert on_lab(two_links, work) == b"back"


def test_a_rate_changes_in_place_and_keeps_what_waits(two_links: Topology) -> None:
    slow = with_channel(two_links, rate_bps=100_000, queue=Queue(limit_bytes=100_000))

    def work(lab: Lab) -> tuple[int, int | None]:
        sender, receiver = udp_sockets(lab)
        for _ in range(50):
            sender.send(bytes(PACKET_BYTES))
        link = lab.link("lan1")
        link.configure("forward", replace(link.channel("forward"), rate_bps=100_000_000))
        arrived = sum(len(receiver.recv(2000)) == PACKET_BYTES for _ in range(50))
        return arrived, link.configured("forward").rate_bps

    assert on_lab(slow, work) == (50, 100_000_000)


def test_delay_is_added_where_it_was_asked_for(two_links: Topology) -> None:
    delayed = with_channel(two_links, delay_ns=20_000_000)

    def work(lab: Lab) -> float:
        sender, receiver = udp_sockets(lab)
        taken = []
        for _ in range(5):  # the quickest: what is above it is a busy machine's scheduling
            start = time.monotonic()
            sender.send(b"there")
            receiver.recv(100)
            taken.append(time.monotonic() - start)
        return min(taken)

    assert on_lab(delayed, work) == pytest.approx(0.020, abs=0.005)


def test_delay_on_a_link_of_the_kernel_driver_is_refused(two_links: Topology) -> None:
    first, *rest = with_channel(two_links, delay_ns=20_000_000).links
    stubborn = replace(two_links, links=(replace(first, driver="kernel"), *rest))
    with pytest.raises(MachineCannotError, match=r"link lan1: .*netem"):
        on_lab(stubborn, lambda lab: None)


def two_vlans() -> Topology:
    """Two hosts with two links of 1 Mb/s, which are VLANs of one NIC that has no more."""

    def shared(host: str, last: int) -> Host:
        interfaces = tuple(
            Interface(f"eth0.{n}", "eth0", n, (ip_interface(f"10.0.{n}.{last}/24"),))
            for n in (1, 2)
        )
        return Host(host, (Nic("eth0", 1_000_000),), interfaces)

    channel = Channel(1_000_000, queue=Queue(limit_bytes=200_000))
    links = tuple(
        Link(
            f"lan{n}",
            InterfaceEnd("left", f"eth0.{n}"),
            InterfaceEnd("right", f"eth0.{n}"),
            channel,
            channel,
        )
        for n in (1, 2)
    )
    return Topology("shared", (shared("left", 1), shared("right", 2)), (), links)


def test_vlans_share_their_nics_rate() -> None:
    def work(lab: Lab) -> tuple[bool, list[str], int]:
        one, _receiver_one = udp_sockets(lab, 1)
        other, _receiver_other = udp_sockets(lab, 2)
        before = [lab.link(name).readings()["forward"].tx_bytes for name in ("lan1", "lan2")]
        for _ in range(60):
            one.send(bytes(PACKET_BYTES))
            other.send(bytes(PACKET_BYTES))
        time.sleep(0.4)
        after = [lab.link(name).readings()["forward"].tx_bytes for name in ("lan1", "lan2")]
        names = [d for d in rtnl.devices(lab.namespace("left").routing) if d != "lo"]
        tagged = vlan_works(lab.namespace("left"))
        return tagged, sorted(names), sum(after) - sum(before)

    tagged, names, carried = on_lab(two_vlans(), work)
    # the NIC is a trunk where there is 8021q, and what its VLANs share has another name
    sharing = ["eth0", "eth0-out"] if tagged else ["eth0"]
    assert names == [*sharing, "eth0.1", "eth0.2"]
    # 0.4 s at 1 Mb/s is 50 kB; without sharing the two links would have carried 100 kB
    assert carried < 70_000


def test_a_pulled_link_leaves_the_other_vlans_of_its_nic_alone() -> None:
    def carriers(lab: Lab) -> list[bool]:
        return [
            rtnl.devices(lab.namespace(host).routing)[f"eth0.{n}"].carrier
            for host in ("left", "right")
            for n in (1, 2)
        ]

    def work(lab: Lab) -> tuple[list[list[bool]], list[bytes]]:
        one, receiver_one = udp_sockets(lab, 1)
        other, receiver_other = udp_sockets(lab, 2)
        found, received = [carriers(lab)], []
        lab.link("lan1").set_up(False)
        one.send(b"lost")
        other.send(b"beside")
        received.append(receiver_other.recv(100))
        found.append(carriers(lab))
        lab.set_nic("left", "eth0", up=False)
        lab.set_nic("left", "eth0", up=True)
        found.append(carriers(lab))
        lab.link("lan1").set_up(True)
        one.send(b"back")
        other.send(b"again")
        received += [receiver_one.recv(100), receiver_other.recv(100)]
        found.append(carriers(lab))
        return found, received

    found, received = on_lab(two_vlans(), work)
    pulled = [False, True, False, True]
    assert found == [[True] * 4, pulled, pulled, [True] * 4]
    assert received == [b"beside", b"back", b"again"]
