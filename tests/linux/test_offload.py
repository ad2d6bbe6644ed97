"""Hosts with and without offload: how long the frames are that they send and are given."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.linux.test_links import on_lab, with_channel
from tests.linux.two_links import TWO_LINKS, faults, finished

from mptcplab.linux.drivers.kernel import frame_limit_bytes
from mptcplab.linux.kernel import offloads, rtnl
from mptcplab.linux.lab.lab import Lab
from mptcplab.network.topology import Channel, Queue, Topology
from mptcplab.wire.pcap_read import read_capture

pytestmark = pytest.mark.kernel

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
FULL_FRAME_BYTES = 1514
PAYLOAD_BYTES = 4 << 20


def watch(lab: Lab, host: str) -> socket.socket:
    """Return a socket that is given every frame of a host's first interface."""
    with lab.enter(host):
        watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        watcher.bind(("eth1", ETH_P_ALL))
    watcher.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    watcher.setblocking(False)
    return watcher


def longest(watcher: socket.socket) -> int:
    """Return the length of the longest frame that was seen."""
    most = 0
    while True:
        try:
            most = max(most, watcher.recv_into(bytearray(1), 1, socket.MSG_TRUNC))
        except BlockingIOError:
            return most


def transfer(lab: Lab) -> dict[str, int]:
    """Send from left to right; return the longest frame at each."""
    watchers = {host: watch(lab, host) for host in ("left", "right")}
    with lab.enter("right"):
        listener = socket.create_server(("10.0.1.2", 7001))
    with lab.enter("left"):
        sender = socket.create_connection(("10.0.1.2", 7001))
    receiver, _ = listener.accept()
    receiver.settimeout(60)
    # a thread of its own: one that both sends and reads stands still once both buffers are full
    writer = threading.Thread(target=sender.sendall, args=(bytes(PAYLOAD_BYTES),), daemon=True)
    with listener, sender, receiver:
        writer.start()
        received = 0
        while received < PAYLOAD_BYTES:
            received += len(receiver.recv(1 << 20))
        writer.join()
    return {host: longest(watcher) for host, watcher in watchers.items()}


def topology_of(two_links: Topology, driver: str, without: tuple[str, ...]) -> Topology:
    """Return the topology with that driver on its first link, and hosts without offload."""
    fast = with_channel(two_links, rate_bps=500_000_000)
    first, *rest = fast.links
    hosts = tuple(replace(host, offload=host.name not in without) for host in fast.hosts)
    return replace(fast, hosts=hosts, links=(replace(first, driver=driver), *rest))


@pytest.mark.parametrize("driver", ["kernel", "tap"])
@pytest.mark.parametrize("without", [("left", "right"), ("right",), ("left",)])
def test_a_host_without_offload_sends_and_is_given_packets_alone(
    two_links: Topology, driver: str, without: tuple[str, ...]
) -> None:
    lengths = on_lab(topology_of(two_links, driver, without), transfer)
    for host in without:
        assert lengths[host] == FULL_FRAME_BYTES


def test_a_host_with_offload_hands_over_more_than_a_packet(two_links: Topology) -> None:
    lengths = on_lab(topology_of(two_links, "tap", ()), transfer)
    assert lengths["left"] > FULL_FRAME_BYTES
    assert lengths["right"] > FULL_FRAME_BYTES


@pytest.mark.parametrize(
    ("rate_bps", "limit_bytes", "longest_bytes"),
    [
        pytest.param(1_000_000_000, 1_000_000, 12_500, id="a tenth of a millisecond"),
        pytest.param(1_000_000_000, 100_000, 6_250, id="a 16th of the queue"),
        pytest.param(100_000_000, 1_000_000, 1_514, id="a packet"),
        pytest.param(100_000_000_000, 10_000_000, 65_536, id="the kernel's longest"),
        pytest.param(None, 1_000, 65_536, id="nothing waits"),
    ],
)
def test_how_long_a_frame_passes_whole(
    rate_bps: int | None, limit_bytes: int, longest_bytes: int
) -> None:
    channel = Channel(rate_bps=rate_bps, queue=Queue(limit_bytes=limit_bytes))
    assert frame_limit_bytes(channel, 1500) == longest_bytes


def test_frames_of_a_tenth_of_a_millisecond_reach_the_other_host_whole(
    two_links: Topology,
) -> None:
    queue = Queue(limit_bytes=1_000_000)
    lengths = on_lab(with_channel(two_links, rate_bps=1_000_000_000, queue=queue), transfer)
    assert 4 * FULL_FRAME_BYTES < lengths["left"] <= 12_500
    assert lengths["right"] == lengths["left"]


@pytest.mark.parametrize("driver", ["kernel", "tap"])
def test_the_offloads_of_every_interface_are_off(two_links: Topology, driver: str) -> None:
    def switched_on(lab: Lab) -> dict[str, list[str]]:
        names = {}
        for host in ("left", "right"):
            for interface in rtnl.devices(lab.namespace(host).routing):
                with lab.enter(host):
                    names[f"{host}:{interface}"] = offloads.switched_on(interface)
        return names

    states = on_lab(topology_of(two_links, driver, ("left",)), switched_on)
    assert states["left:eth1"] == states["left:eth2"] == []
    assert "TSO" in states["right:eth1"]


@pytest.mark.slow
@pytest.mark.program("tcpdump")
@pytest.mark.parametrize("driver", ["kernel", "tap"])
def test_our_stack_without_offload_sends_packets_alone(tmp_path: Path, driver: str) -> None:
    done = finished(
        tmp_path,
        TWO_LINKS,
        "hosts.alice.stack=ours",
        "hosts.alice.offload=false",
        f"links.*.driver={driver}",
        "links.*.rate=10Mb/s",  # what an interpreted stack can send packet by packet
        "duration=1s",
        'captures=["alice:eth0"]',
    )
    assert faults(done) == []
    assert done.metadata["offload"] == {"alice": False, "bob": True}
    capture = (done.folder / "alice-eth0.pcap").read_bytes()
    lengths = [packet.original_bytes for packet in read_capture(capture)]
    assert len(lengths) > 1000
    # full but for the options that the mapping of a segment need not have
    assert FULL_FRAME_BYTES - 20 <= max(lengths) <= FULL_FRAME_BYTES
