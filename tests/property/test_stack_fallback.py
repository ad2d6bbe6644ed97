"""Boxes that begin to remove options at any time: never a wrong byte, and an end to everything.

One path, perhaps a second, and a box on the first that takes MPTCP options off, one way or both,
from some segment on, for good or for a while. What arrives must be what was sent, in order; what
arrives in full must have ended both connections.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.addresses import A1, A2, B1, B2
from tests.search import cases
from tests.times import MS, SECOND

from mptcplab.stack import Connection, events
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.schedulers import SCHEDULERS
from mptcplab.stack.testing import Filter, Host, Pipe, config
from mptcplab.wire.mptcp import Dss, MpCapable, MptcpOption
from mptcplab.wire.packet import split_train
from mptcplab.wire.segment import SYN, Segment

FIRST_PATH, SECOND_PATH = (A1, B1), (A2, B2)


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
        self.done = False
        self.received = bytearray()
        self.connection: Connection | None = None
        host.on_event = self.on_event

    def on_event(self, connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.ConnectionAccepted) and self.connection is None:
            self.connection = connection
        if connection is not self.connection:
            return
        if isinstance(event, events.DataWritable):
            self.write()
        elif isinstance(event, events.DataReadable):
            self.received += connection.read()

    def write(self) -> None:
        connection = self.connection
        assert connection is not None
        if self.done or connection.closed_for is not None:
            return
        while self.written < len(self.stream):
            taken = connection.write(self.stream[self.written :])
            if not taken:
                return
            self.written += taken
        connection.close()
        self.done = True


@pytest.mark.slow
@settings(max_examples=cases(100), suppress_health_check=list(HealthCheck))
# Where streams of an earlier stack did not end.
@example(132)
@example(270)
@example(765)
@example(3853)
@example(43804)
@example(2739348)
@example(4194304)
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
    a = pipe.add_host("a", replace(shared, path_manager=FullMesh), FIRST_PATH[0], SECOND_PATH[0])
    b = pipe.add_host("b", shared, FIRST_PATH[1], SECOND_PATH[1])
    pipe.link(*FIRST_PATH, random.randrange(1, 40) * MS)
    if random.random() < 0.5:  # else joins fail, which is another case than none
        pipe.link(SECOND_PATH[0], FIRST_PATH[1], random.randrange(1, 40) * MS)
    box = Stripper(random)
    for way, path in enumerate(pipe.both(*FIRST_PATH)):
        path.filter = box.on(way)
    left = End(a, random.randbytes(random.choice((10, 4_000, 300_000))))
    right = End(b, random.randbytes(random.choice((0, 10, 4_000, 300_000))))
    b.stack.listen(80)
    left.connection = pipe.connect(a, *FIRST_PATH)
    pipe.run(4_000 * SECOND, lambda: not a.stack.connections + b.stack.connections)
    assert left.stream.startswith(bytes(right.received))
    assert right.stream.startswith(bytes(left.received))
    assert left.connection.closed_for is not None
    if len(right.received) == len(left.stream) and len(left.received) == len(right.stream):
        assert right.connection is not None
        assert right.connection.closed_for is not None
