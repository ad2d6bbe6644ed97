"""Harmless middleboxes, in any order: never a byte lost, changed or out of its place."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.addresses import A1, A2, B1, B2
from tests.search import cases
from tests.times import MS, SECOND

from mptcplab.middleboxes import Chain, Middlebox, make_box
from mptcplab.middleboxes.packets import packets_of
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.testing import Filter, Path, Pipe, Sink, config, pump
from mptcplab.wire.ip import parse_address
from mptcplab.wire.packet import decode_packet, encode_packet
from mptcplab.wire.segment import Segment

FIRST_PATH, SECOND_PATH = (A1, B1), (A2, B2)
SHOWN = "192.0.2.200"


class Lossy(Middlebox):
    """Loses packets, so that others behind it find gaps."""

    def __init__(self, random: Random, loss: float) -> None:
        super().__init__(MiddleboxPlan("lossy"))
        self.random = random
        self.loss = loss

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:
        return [each for each in packets_of(segment) if self.random.random() >= self.loss]


def benign(random: Random) -> list[Middlebox]:
    """Return some boxes, each of a kind that no stream notices; one NAT at most, perhaps losses."""
    plans = [
        random.choice(
            (
                MiddleboxPlan("split", size_bytes=random.randrange(40, 1500)),
                MiddleboxPlan(
                    "merge",
                    size_bytes=random.randrange(100, 9000),
                    hold_ns=random.randrange(1, 5 * MS),
                ),
                MiddleboxPlan("randomise-sequence"),
            )
        )
        for _ in range(random.randrange(1, 5))
    ]
    if random.random() < 0.5:
        nat = MiddleboxPlan("nat", outside=IPv4Address(SHOWN))
        plans.insert(random.randrange(len(plans) + 1), nat)
    boxes = [
        make_box(replace(plan, direction=random.choice(("both", "forward", "backward"))), number)
        for number, plan in enumerate(plans)
    ]
    if loss := random.choice((0.0, 0.02, 0.05)):
        boxes.insert(random.randrange(len(boxes) + 1), Lossy(random, loss))
    return boxes


class Boxes:
    """A chain on the first path of a pipe, both ways."""

    def __init__(self, pipe: Pipe, chain: Chain, *, trains: bool) -> None:
        self.pipe = pipe
        self.chain = chain
        self.trains = trains
        there, back = pipe.both(*FIRST_PATH)
        there.filter, back.filter = self.on(outbound=True), self.on(outbound=False)
        hidden = Path(back.delay_ns)
        hidden.filter = back.filter
        pipe.paths[parse_address(B1), parse_address(SHOWN)] = hidden
        self.delay_ns = there.delay_ns

    def on(self, *, outbound: bool) -> Filter:
        def carry(segment: Segment, now_ns: int) -> list[tuple[Segment, int]]:
            out = []
            for packet in [segment] if self.trains else as_packets(segment):
                out += self.chain.forward(packet, outbound, now_ns)
            self.watch()
            return [(each, 0) for each in out]

        return carry

    def watch(self) -> None:
        deadline_ns = self.chain.deadline_ns
        if deadline_ns is not None:
            self.pipe.at(max(deadline_ns - self.pipe.now_ns, 0), self.release)

    def release(self) -> None:
        for segment, _ in self.chain.expire(self.pipe.now_ns):
            self.pipe.inject(segment, self.delay_ns)


def as_packets(segment: Segment) -> list[Segment]:
    """Return the packets of a train as they are read off a wire."""
    return [decode_packet(encode_packet(packet)) for packet in packets_of(segment)]


@pytest.mark.slow
@settings(max_examples=cases(100), suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 32))
def test_benign_boxes_never_lose_or_alter_the_stream(seed: int) -> None:
    random = Random(seed)
    shared = replace(
        config(),
        checksum=random.random() < 0.5,
        sack=random.random() < 0.7,
        timestamps=random.random() < 0.5,
    )
    pipe = Pipe(seed)
    a = pipe.add_host("a", replace(shared, path_manager=FullMesh), FIRST_PATH[0], SECOND_PATH[0])
    b = pipe.add_host("b", shared, FIRST_PATH[1], SECOND_PATH[1])
    pipe.link(*FIRST_PATH, random.randrange(1, 40) * MS)
    if random.random() < 0.5:
        pipe.link(*SECOND_PATH, random.randrange(1, 40) * MS)
    Boxes(pipe, Chain(benign(random)), trains=random.random() < 0.3)
    stream = random.randbytes(random.choice((10, 4_000, 60_000)))
    sink = Sink(b, content=True)
    b.stack.listen(80)
    client = pipe.connect(a, *FIRST_PATH)
    pump(a, client, stream)
    assert pipe.run(600 * SECOND, lambda: sink.finished)
    assert bytes(sink.content) == stream
    assert client.mptcp, client.fallback_reason
    assert not client.session.tx_infinite
