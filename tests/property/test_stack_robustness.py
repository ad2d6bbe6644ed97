"""Whatever arrives, a stack stays sane: no exception, no endless timer, no growing memory.

Two stacks talk through a box that changes, invents, repeats and corrupts segments. Nothing is
asked of the stream, which such a box may well end; but all that a stack sends must encode, every
timer that is due must be served, and nothing may pile up.
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

from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion import CONGESTION_CONTROLS
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.schedulers import SCHEDULERS
from mptcplab.stack.testing import Host, Pipe, Sink, config, connection_row, holdings, pump
from mptcplab.wire.error import WireError
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)
from mptcplab.wire.packet import decode_packet, encode_packet, split_train
from mptcplab.wire.segment import Segment

PATHS = ((A1, B1), (A2, B2))
MOST_SEGMENTS = 20_000
"""Of both hosts in a second: more than any case has use for, so that an ACK storm is noticed."""


class Box:
    """Stands on all paths; what it saw makes what it invents plausible."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.rate = random.choice((0.003, 0.03, 0.2, 0.5))
        self.keys: list[int] = []
        self.dsns: list[int] = []
        self.recent: list[bytes] = []

    def __call__(self, segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        packets = [encode_packet(packet) for packet in split_train(segment)]
        self.learn(segment, packets[-1])
        random = self.random
        arriving: list[tuple[Segment, int]] = []
        if random.random() > 0.02:
            arriving.append((segment, 0))
        if random.random() < self.rate:
            changed = decode_packet(packets[0])
            for _ in range(random.randint(1, 3)):
                self.change(changed)
            if random.random() < 0.5:
                arriving = []
            arriving.append((changed, random.randrange(30) * MS))
        if random.random() < self.rate / 3:
            arriving += self.corrupt(packets[0])
        if random.random() < self.rate / 3:
            old = decode_packet(random.choice(self.recent))
            arriving.append((old, random.randrange(5_000) * MS))
        return arriving

    def learn(self, segment: Segment, packet: bytes) -> None:
        self.recent = [*self.recent[-30:], packet]
        for option in segment.mptcp:
            if isinstance(option, MpCapable):
                known = (option.sender_key, option.receiver_key)
                self.keys = [*self.keys, *(key for key in known if key is not None)][-4:]
            elif isinstance(option, Dss) and option.dsn is not None:
                near = option.dsn + self.random.randrange(-2_000, 2_000)
                self.dsns = [*self.dsns, near % (1 << 64)][-5:]

    def corrupt(self, packet: bytes) -> list[tuple[Segment, int]]:
        """Flip bits of the TCP header and options, and fix the checksum."""
        damaged = bytearray(packet)
        for _ in range(self.random.randint(1, 4)):
            damaged[self.random.randrange(20, min(len(damaged), 80))] ^= 1 << self.random.randrange(
                8
            )
        try:
            return [(decode_packet(bytes(damaged)), 0)]
        except WireError:
            return []

    def change(self, segment: Segment) -> None:
        random = self.random
        what = random.randrange(10)
        if what == 0:
            segment.flags ^= 1 << random.randrange(8)
        elif what == 1:
            segment.seq = (segment.seq + self.distance()) & 0xFFFF_FFFF
        elif what == 2:
            segment.ack = (segment.ack + self.distance()) & 0xFFFF_FFFF
        elif what == 3:
            segment.window = random.choice((0, 1, 0xFFFF, random.getrandbits(16)))
        elif what == 4:
            segment.mptcp = ()
        elif what == 5:
            segment.mptcp = (*segment.mptcp[: random.randrange(2)], self.option())
        elif what == 6:
            segment.ts_val = random.choice((None, 0, random.getrandbits(32)))
        elif what == 7:
            left = (segment.ack + random.randrange(5_000)) & 0xFFFF_FFFF
            segment.sack = ((left, (left + self.distance()) & 0xFFFF_FFFF),)
        elif what == 8:
            segment.payload = random.randbytes(random.choice((0, 1, 10, 1_000)))
            segment.payload_bytes = len(segment.payload)
        else:
            segment.mss = random.choice((None, 0, 1, 536, 0xFFFF))
            segment.wscale = random.choice((None, 0, 14, 255))

    def distance(self) -> int:
        random = self.random
        return random.choice((1, -1, 1_000, -1_000, 1 << 31, random.getrandbits(32)))

    def option(self) -> MptcpOption:
        random = self.random
        key = random.choice([random.getrandbits(64), *self.keys])
        number = random.choice([0, (1 << 64) - 1, *self.dsns])
        small = random.randrange(4)
        options: tuple[MptcpOption, ...] = (
            MpCapable(random.randrange(3), random.getrandbits(8), random.choice((None, key))),
            MpCapable(1, 0x81, key, key, random.choice((None, 0, 1, 100, 0xFFFF))),
            MpJoinSyn(False, small, random.getrandbits(32), 0),
            MpJoinSynAck(True, small, bytes(8), 0),
            MpJoinAck(bytes(20)),
            AddAddr(small, bytes((10, 0, small, 2)), random.choice((None, 80)), echo=True),
            AddAddr(small, bytes((10, 0, small, 2)), None, hmac=bytes(8)),
            RemoveAddr((small, small ^ 1)),
            MpPrio(bool(small & 1), random.choice((None, small))),
            MpFail(number),
            MpFastclose(random.getrandbits(64)),
            MpTcpRst(random.randrange(10), random.randrange(16)),
            Dss(number, bool(small & 1)),
            Dss(
                random.choice((None, number)),
                bool(small & 1),
                number,
                bool(small & 2),
                random.choice((0, 1, 2, random.getrandbits(16))),
                random.choice((0, 1, 10, 1_000, 0xFFFF)),
                random.choice((None, random.getrandbits(16))),
                random.random() < 0.2,
            ),
        )
        return random.choice(options)


def configuration(random: Random, version: int) -> StackConfig:
    return replace(
        config(),
        congestion=CONGESTION_CONTROLS[random.choice(sorted(CONGESTION_CONTROLS))],
        scheduler=SCHEDULERS[random.choice(sorted(SCHEDULERS))],
        path_manager=FullMesh,
        mptcp=random.random() < 0.85,
        version=version,
        checksum=random.random() < 0.4,
        timestamps=random.random() < 0.5,
        sack=random.random() < 0.7,
        nagle=random.random() < 0.3,
        pacing=random.random() < 0.3,
        receive_buffer_bytes=random.choice((600, 5_000, 131_072)),
        keepalive_ns=random.choice((0, 2 * SECOND)),
        user_timeout_ns=random.choice((0, 30 * SECOND)),
        time_wait_ns=5 * SECOND,
    )


def check(pipe: Pipe, host: Host) -> None:
    host.stack.handle_timeout(pipe.now_ns)
    due = host.stack.poll_timeout()
    assert due is None or due > pipe.now_ns
    for connection in host.stack.connections:
        held = holdings(connection)
        assert held.signals <= 256
        assert held.announced_addresses <= 256
        assert held.subflows <= config().max_subflows
        size_bytes = connection_row(connection)["receive_buffer_bytes"]
        assert held.buffered_bytes <= size_bytes + 65_536
        assert held.mappings <= 1_000
        assert held.least_flight_bytes >= 0


@pytest.mark.slow
@settings(max_examples=cases(300), suppress_health_check=list(HealthCheck))
# Where a timer of an earlier stack was due for ever.
@example(174)
@example(3371)
@example(3799311604)
# Where the end of a stream was to be sent after its connection was over.
@example(3093839)
# Where MP_FAIL named a mapping that begins before the stream.
@example(104710)
@given(st.integers(0, 1 << 32))
def test_nothing_that_arrives_breaks_a_stack(seed: int) -> None:
    random = Random(seed)
    version = random.choice((1, 1, 0))
    pipe = Pipe(seed)
    left = configuration(random, version)
    right = configuration(random, version if random.random() < 0.9 else 1 - version)
    a = pipe.add_host("a", left, *(path[0] for path in PATHS))
    b = pipe.add_host("b", right, *(path[1] for path in PATHS))
    box = Box(random)
    for one, other in PATHS:
        pipe.link(one, other, random.randrange(1, 50) * MS)
        for path in pipe.both(one, other):
            path.filter = box
    Sink(b, content=True)
    b.stack.listen(80)
    connection = pipe.connect(a, *PATHS[0])
    pump(a, connection, random.randbytes(random.choice((10, 3_000, 200_000))))
    for _ in range(60):
        before = pipe.transmitted
        pipe.run(SECOND)
        assert pipe.transmitted - before < MOST_SEGMENTS
        check(pipe, a)
        check(pipe, b)
