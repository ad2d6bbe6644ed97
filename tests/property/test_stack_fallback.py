"""Boxes that begin to remove options at any time: never a wrong byte, and an end to everything.

One path, perhaps a second, and a box on the first that takes MPTCP options off, one way or both,
from some segment on, for good or for a while. What arrives must be what was sent, in order; what
arrives in full must have ended both connections. The number of cases is ``MPTCPLAB_CASES`` (100
without it).
"""

from __future__ import annotations

import os
from dataclasses import replace
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mptcplab.stack import Connection, events
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.schedulers import SCHEDULERS
from mptcplab.stack.testing import MILLISECOND_NS, Filter, Host, Pipe, config
from mptcplab.wire.ip import parse_address
from mptcplab.wire.mptcp import Dss, MpCapable, MptcpOption
from mptcplab.wire.packet import split_train
from mptcplab.wire.segment import SYN, Segment

CASES = int(os.environ.get("MPTCPLAB_CASES", "100"))
FIRST = ("10.0.1.1", "10.0.1.2")
SECOND = ("10.0.2.1", "10.0.2.2")


class Stripper:
    """Counts the segments of both directions and removes options from some of them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.seen = 0
        self.begins = random.choice((1, 3, 5, 10, 20, 50, 100))
        self.ends = random.choice((1 << 60, self.begins + 5))
        self.ways = random.choice(((True, False), (False, True), (True, True)))
        self.loss = random.choice((0.0, 0.0, 0.02, 0.1))
        self.kinds = random.choice(((Dss,), (Dss, MpCapable), (MptcpOption,)))

    def on(self, way: int) -> Filter:
        def carry(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
            self.seen += 1
            if self.random.random() < self.loss:
                return []
            if not self.ways[way] or not self.begins <= self.seen < self.ends:
                return [(segment, 0)]
            if segment.flags & SYN:
                return [(segment, 0)]
            packets = split_train(segment)
            for packet in packets:
                packet.mptcp = tuple(o for o in packet.mptcp if not isinstance(o, self.kinds))
            return [(packet, 0) for packet in packets]

        return carry


class End:
    """Writes a stream, reads the other, and closes once it has written."""

    def __init__(self, host: Host, stream: bytes) -> None:
        self.stream = stream
        self.written = 0
        self.received = bytearray()
        self.connection: Connection | None = None
        host.on_event = self.on_event

    def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.ConnectionAccepted) and self.connection is None:
            self.connection = event.connection
        if event.connection is not self.connection:
            return
        if isinstance(event, events.DataWritable):
            self.write()
        elif isinstance(event, events.DataReadable):
            self.received += event.connection.read()

    def write(self) -> None:
        connection = self.connection
        assert connection is not None
        if connection.send.finished or connection.closed_for is not None:
            return
        while self.written < len(self.stream):
            taken = connection.write(self.stream[self.written :])
            if not taken:
                return
            self.written += taken
        connection.close()


@settings(
    max_examples=CASES,
    deadline=None,
    derandomize=CASES == 100,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.integers(0, 1 << 32))
def test_stripped_options_never_cost_a_byte_its_place(seed: int) -> None:
    random = Random(seed)
    shared = replace(
        config(),
        version=random.choice((0, 1)),
        checksum=random.random() < 0.3,
        sack=random.random() < 0.7,
        timestamps=random.random() < 0.5,
        receive_buffer_bytes=random.choice((3_000, 131_072)),
        scheduler=SCHEDULERS[random.choice(sorted(SCHEDULERS))],
    )
    pipe = Pipe(seed)
    a = pipe.add_host("a", replace(shared, path_manager=FullMesh), FIRST[0], SECOND[0])
    b = pipe.add_host("b", shared, FIRST[1], SECOND[1])
    pipe.link(*FIRST, random.randrange(1, 40) * MILLISECOND_NS)
    if random.random() < 0.5:  # else joins fail, which is another case than none
        pipe.link(SECOND[0], FIRST[1], random.randrange(1, 40) * MILLISECOND_NS)
    box = Stripper(random)
    for way, path in enumerate(pipe.both(*FIRST)):
        path.filter = box.on(way)
    left = End(a, random.randbytes(random.choice((10, 4_000, 300_000))))
    right = End(b, random.randbytes(random.choice((0, 10, 4_000, 300_000))))
    b.stack.listen(80)
    local, remote = (parse_address(address) for address in FIRST)
    left.connection = a.stack.connect(local, remote, 80, pipe.now_ns)
    pipe.run(4_000_000 * MILLISECOND_NS, lambda: not a.stack.connections + b.stack.connections)
    assert left.stream.startswith(bytes(right.received))
    assert right.stream.startswith(bytes(left.received))
    assert left.connection.closed_for is not None
    if len(right.received) == len(left.stream) and len(left.received) == len(right.stream):
        assert right.connection is not None
        assert right.connection.closed_for is not None
