"""Links that netem delays and thins out, on kernels that have it."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.linux.test_links import PACKET_BYTES, on_lab, udp_sockets
from tests.linux.two_links import finished

from mptcplab.linux.kernel.capabilities import netem_works
from mptcplab.linux.lab.lab import Lab
from mptcplab.network.topology import Channel, Queue, Topology

pytestmark = pytest.mark.kernel
PACKETS = 300
SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h


@pytest.fixture(autouse=True)
def _needs_netem() -> None:
    if not netem_works():
        pytest.skip("this kernel has no netem; `make test-kernels` boots one that has it")


def on_netem(topology: Topology, channel: Channel) -> Topology:
    first, *rest = topology.links
    changed = replace(first, driver="netem", forward=channel, backward=channel)
    return replace(topology, links=(changed, *rest))


def sockets_for_all(lab: Lab) -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets, of which the receiver's takes all packets without reading."""
    sender, receiver = udp_sockets(lab)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, PACKETS * 10_000)
    return sender, receiver


def quickest_s(sender: socket.socket, receiver: socket.socket) -> float:
    """Return how long the quickest of five packets took: more is a busy machine's scheduling."""
    taken = []
    for _ in range(5):
        start = time.monotonic()
        sender.send(b"there")
        receiver.recv(100)
        taken.append(time.monotonic() - start)
    return min(taken)


def test_a_delay_is_there_and_changes_in_place(two_links: Topology) -> None:
    first = Channel(50_000_000, 40_000_000, queue=Queue(limit_bytes=100_000))
    then = replace(first, delay_ns=90_000_000, jitter_ns=3_000_000, loss=0.01)

    def work(lab: Lab) -> tuple[str, list[float], list[Channel]]:
        sender, receiver = udp_sockets(lab)
        link = lab.link("lan1")
        took, found = [quickest_s(sender, receiver)], [link.configured("forward")]
        link.configure("forward", replace(then, jitter_ns=0, loss=0.0))
        took.append(quickest_s(sender, receiver))
        link.configure("forward", then)
        found += [link.configured("forward"), link.configured("backward")]
        return link.driver, took, found

    driver, took, found = on_lab(on_netem(two_links, first), work)
    assert driver == "netem"
    assert took == [pytest.approx(0.040, abs=0.02), pytest.approx(0.090, abs=0.02)]
    assert took[0] >= 0.040
    assert took[1] >= 0.090
    assert found == [first, then, first]


def test_each_packet_arrives_or_is_counted_as_lost(two_links: Topology) -> None:
    lossy = Channel(None, 5_000_000, loss=0.3, queue=Queue(limit_bytes=None))
    whole = replace(lossy, loss=0.0)

    def work(lab: Lab) -> tuple[int, int, int | None, int | None]:
        sender, receiver = sockets_for_all(lab)
        link = lab.link("lan1")
        link.configure("forward", lossy)
        before = link.readings()["forward"]
        for _ in range(PACKETS):
            sender.send(bytes(PACKET_BYTES))
        link.configure("forward", whole)
        sender.send(b"the last")
        arrived = 0
        while len(receiver.recv(2000)) == PACKET_BYTES:
            arrived += 1
        after = link.readings()["forward"]
        return arrived, after.tx_packets - before.tx_packets, after.drops_loss, after.drops_queue

    arrived, sent, lost, refused = on_lab(on_netem(two_links, whole), work)
    assert lost == PACKETS - arrived
    assert refused == 0
    assert arrived + 1 <= sent <= arrived + 3  # the kernel may ask for a neighbour meanwhile
    assert 0.15 * PACKETS < lost < 0.45 * PACKETS


def test_jitter_keeps_packets_in_order(two_links: Topology) -> None:
    jittery = Channel(None, 20_000_000, jitter_ns=10_000_000, queue=Queue(limit_bytes=None))

    def work(lab: Lab) -> list[int]:
        sender, receiver = sockets_for_all(lab)
        for number in range(PACKETS):
            sender.send(number.to_bytes(2, "big"))
        return [int.from_bytes(receiver.recv(10), "big") for _ in range(PACKETS)]

    assert on_lab(on_netem(two_links, jittery), work) == list(range(PACKETS))


@pytest.mark.slow
def test_a_run_has_its_subflows_over_netem(tmp_path: Path) -> None:
    link = '\nbetween = ["alice", "bob"]\nrate = "4Mb/s"\nrtt = "80ms"\ndriver = "netem"\n'
    text = (
        f'duration = "2s"\nhosts = ["alice", "bob"]\n[links.one]{link}loss = "0.5%"\n'
        f'[links.two]{link}jitter = "2ms"\n[flows.main]\nfrom = "alice"\nto = "bob"\n'
    )
    done = finished(tmp_path, text)
    assert done.metadata["drivers"] == {"one": "netem", "two": "netem"}
    # whether it is valid is not asked: on emulated processors round trips are some ms longer
    [flow] = done.metadata["flows"]
    assert flow["intact"] is True
    for name in ("one", "two"):
        rows = [r for r in done.rows("links") if r["link"] == name and r["direction"] == "forward"]
        assert sum(row["tx_bytes"] for row in rows) > 200_000, name
