"""Whatever the paths do: every byte once, in order, and the connection ends as the RFC says.

One path is bad but lives; the others may also die, with and without return.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.addresses import A1, A2, A6, B1, B2, B6
from tests.search import cases
from tests.times import HOUR, MS, SECOND

from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion import CONGESTION_CONTROLS
from mptcplab.stack.events import CloseReason
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.path_managers.initial_only import InitialOnly
from mptcplab.stack.schedulers import SCHEDULERS
from mptcplab.stack.testing import Filter, Host, Pipe, description, usable_paths
from mptcplab.wire.segment import FIN, PSH, SYN, Segment

PATHS = ((A1, B1), (A2, B2), (A6, B6))


@dataclass(frozen=True)
class Impairment:
    loss: float
    duplication: float
    reordering: float
    cutting: float
    delay_ms: int
    jitter_ms: int


@dataclass(frozen=True)
class Case:
    seed: int
    mptcp: bool
    version: int
    checksum: bool
    sack: bool
    timestamps: bool
    nagle: bool
    pacing: bool
    real_bytes: bool
    trains: bool
    scheduler: str
    congestion: str
    path_count: int
    living: int
    impairments: tuple[Impairment, ...]
    outages: tuple[tuple[int, int, int], ...]  # path, from ms, for ms (0: for good)
    up_bytes: int
    down_bytes: int
    send_buffer: int
    receive_buffer: int
    autotune: bool
    read_bytes: int
    read_interval_ms: int


impairments = st.builds(
    Impairment,
    loss=st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.25]),
    duplication=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
    reordering=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
    cutting=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    delay_ms=st.integers(0, 300),
    jitter_ms=st.sampled_from([0, 0, 1, 40, 400]),
)

drawn_cases = st.builds(
    Case,
    seed=st.integers(0, 1 << 32),
    mptcp=st.sampled_from([True, True, True, False]),
    version=st.sampled_from([1, 1, 0]),
    checksum=st.booleans(),
    sack=st.sampled_from([True, True, False]),
    timestamps=st.sampled_from([True, True, False]),
    nagle=st.booleans(),
    pacing=st.booleans(),
    real_bytes=st.sampled_from([True, True, False]),
    trains=st.booleans(),
    scheduler=st.sampled_from(sorted(SCHEDULERS)),
    congestion=st.sampled_from(sorted(CONGESTION_CONTROLS)),
    path_count=st.integers(1, 3),
    living=st.integers(0, 2),
    impairments=st.tuples(impairments, impairments, impairments),
    outages=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 5_000), st.sampled_from([0, 50, 900, 20_000])),
        max_size=3,
    ).map(tuple),
    up_bytes=st.sampled_from([0, 1, 100, 5_000, 60_000, 300_000]),
    down_bytes=st.sampled_from([0, 1, 100, 5_000, 60_000, 300_000]),
    send_buffer=st.sampled_from([1, 1_000, 20_000, 87_380, 4_000_000]),
    receive_buffer=st.sampled_from([600, 5_000, 40_000, 131_072, 6_000_000]),
    autotune=st.booleans(),
    read_bytes=st.sampled_from([1 << 40, 1 << 40, 900, 30_000]),
    read_interval_ms=st.sampled_from([0, 0, 5, 3_000]),
)


CLEAN = Impairment(loss=0.0, duplication=0.0, reordering=0.0, cutting=0.0, delay_ms=10, jitter_ms=0)
PLAIN = Case(
    seed=1,
    mptcp=True,
    version=1,
    checksum=False,
    sack=True,
    timestamps=True,
    nagle=False,
    pacing=False,
    real_bytes=True,
    trains=True,
    scheduler="lowest-rtt",
    congestion="reno",
    path_count=1,
    living=0,
    impairments=(CLEAN,) * 3,
    outages=(),
    up_bytes=5_000,
    down_bytes=0,
    send_buffer=87_380,
    receive_buffer=131_072,
    autotune=True,
    read_bytes=1 << 40,
    read_interval_ms=0,
)


def content(seed: int, size: int) -> bytes:
    return Random(seed).randbytes(size)


class Application:
    """Writes a stream, reads the other, slowly if asked to, and closes."""

    def __init__(self, pipe: Pipe, case: Case, host: Host, sends: int, seed: int) -> None:
        self.pipe = pipe
        self.case = case
        # A thousand round trips are enough for any buffer.
        self.stream = content(seed, min(sends, 1000 * min(case.send_buffer, case.receive_buffer)))
        self.written = 0
        self.done = False
        self.received = bytearray()
        self.received_length = 0
        self.connection: Connection | None = None
        self.closed: CloseReason | None = None
        self.finished = False
        self._reading = False
        host.on_event = self.on_event

    def on_event(self, connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.ConnectionAccepted) and self.connection is None:
            # A SYN that was duplicated and late opens another one, which comes to nothing.
            self.connection = connection
        if connection is not self.connection:
            return
        if isinstance(event, events.DataWritable):
            self.write()
        elif isinstance(event, events.DataReadable):
            self.read()
        elif isinstance(event, events.PeerFinished):
            self.finished = True
        elif isinstance(event, events.ConnectionClosed):
            assert self.closed is None
            self.closed = event.reason

    def write(self) -> None:
        connection = self.connection
        if connection is None or self.done or connection.closed_for is not None:
            return
        while self.written < len(self.stream):
            rest = self.stream[self.written :]
            if self.case.real_bytes:
                taken = connection.write(rest)
            else:
                taken = connection.write_length(len(rest))
            if not taken:
                return
            self.written += taken
        connection.close()
        self.done = True

    def read(self) -> None:
        if self._reading:
            return
        connection = self.connection
        assert connection is not None
        if self.case.real_bytes:
            piece = connection.read(self.case.read_bytes)
            self.received += piece
            taken = len(piece)
        else:
            taken = connection.read_length(self.case.read_bytes)
        self.received_length += taken
        if taken == self.case.read_bytes:
            # There may be more, of which no event tells.
            self._reading = True
            self.pipe.at(self.case.read_interval_ms * MS, self.read_on)

    def read_on(self) -> None:
        self._reading = False
        self.read()


def impaired(impairment: Impairment, random: Random) -> Filter:
    def carry(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        if random.random() < impairment.loss:
            return []
        pieces = [segment]
        if segment.packets > 1 and random.random() < impairment.cutting:
            pieces = cut(segment, random)
        arriving = []
        for piece in pieces:
            extra = random.randint(0, impairment.jitter_ms) * MS
            if random.random() < impairment.reordering:
                extra += random.randint(1, 200) * MS
            arriving.append((piece, extra))
            if random.random() < impairment.duplication:
                arriving.append((piece, extra + random.randint(0, 100) * MS))
        return arriving

    return carry


def cut(segment: Segment, random: Random) -> list[Segment]:
    """Split a train after some packet; perhaps lose the second part (a full queue)."""
    at = random.randint(1, segment.packets - 1) * segment.segment_size_bytes
    head = part(segment, 0, at)
    if random.random() < 0.5:
        return [head]
    return [head, part(segment, at, segment.payload_bytes)]


def part(segment: Segment, start: int, end: int) -> Segment:
    last = end == segment.payload_bytes
    payload = segment.payload
    piece = Segment(
        segment.src,
        segment.src_port,
        segment.dst,
        segment.dst_port,
        seq=(segment.seq + start) & 0xFFFFFFFF,
        ack=segment.ack,
        flags=segment.flags if last else segment.flags & ~(FIN | PSH),
        window=segment.window,
        payload_bytes=end - start,
        payload=None if payload is None else payload[start:end],
        segment_size_bytes=segment.segment_size_bytes,
        sack=segment.sack,
        ts_val=segment.ts_val,
        ts_ecr=segment.ts_ecr,
        mptcp=segment.mptcp,
    )
    assert not segment.flags & SYN
    return piece


def configuration(case: Case) -> StackConfig:
    return StackConfig(
        congestion=CONGESTION_CONTROLS[case.congestion],
        scheduler=SCHEDULERS[case.scheduler],
        path_manager=InitialOnly,
        mptcp=case.mptcp,
        version=case.version,
        checksum=case.checksum,
        sack=case.sack,
        timestamps=case.timestamps,
        nagle=case.nagle,
        pacing=case.pacing,
        train_bytes=65_483 if case.trains else 1,
        send_buffer_bytes=case.send_buffer,
        send_buffer_max_bytes=4_194_304 if case.autotune else 0,
        receive_buffer_bytes=case.receive_buffer,
        receive_buffer_max_bytes=6_291_456 if case.autotune else 0,
        syn_retries=30,
        synack_retries=30,
        retries=30,
        max_rto_ns=20 * SECOND,
        close_timeout_ns=HOUR,
    )


def build(case: Case) -> tuple[Pipe, Host, Host]:
    pipe = Pipe(case.seed)
    used = PATHS[: case.path_count]
    client = configuration(case)
    client.path_manager = FullMesh
    a = pipe.add_host("a", client, *(path[0] for path in used))
    b = pipe.add_host("b", configuration(case), *(path[1] for path in used))
    for (left, right), impairment in zip(used, case.impairments, strict=False):
        pipe.link(left, right, impairment.delay_ms * MS)
        for path in pipe.both(left, right):
            path.filter = impaired(impairment, pipe.random)
    return pipe, a, b


def schedule_outages(pipe: Pipe, case: Case, established: Callable[[], int]) -> None:
    """Take paths down, but not the living one, nor the first before another works."""
    living = case.living % case.path_count if case.mptcp else 0
    for index, start_ms, length_ms in case.outages:
        if index >= case.path_count or index == living:
            continue
        both = pipe.both(*PATHS[index])

        def down(
            both: tuple[object, ...] = both, index: int = index, length_ms: int = length_ms
        ) -> None:
            if index == 0 and established() < 2 and not length_ms:
                return
            for path in pipe.both(*PATHS[index]):
                path.up = False
            if length_ms:
                pipe.at(length_ms * MS, lambda: up(index))

        def up(index: int) -> None:
            for path in pipe.both(*PATHS[index]):
                path.up = True

        pipe.at(start_ms * MS, down)


def run(case: Case) -> None:
    pipe, a, b = build(case)
    sender = Application(pipe, case, a, case.up_bytes, case.seed + 1)
    receiver = Application(pipe, case, b, case.down_bytes, case.seed + 2)
    b.stack.listen(80)
    connection = pipe.connect(a, *PATHS[0])
    sender.connection = connection
    schedule_outages(pipe, case, lambda: len(usable_paths(connection)))
    ended = pipe.run(4 * HOUR, lambda: sender.closed is not None and receiver.closed is not None)
    assert ended, describe(case, connection, receiver.connection, sender, receiver)
    for writer, reader in ((sender, receiver), (receiver, sender)):
        assert reader.received_length <= len(writer.stream)
    pipe.run(HOUR)
    for writer, reader in ((sender, receiver), (receiver, sender)):
        assert reader.received_length == len(writer.stream), describe(
            case, connection, receiver.connection, sender, receiver
        )
        if case.real_bytes:
            assert bytes(reader.received) == writer.stream
        assert reader.finished
    assert sender.closed is CloseReason.FINISHED
    assert receiver.closed is CloseReason.FINISHED


def describe(
    case: Case,
    left: Connection,
    right: Connection | None,
    sender: Application,
    receiver: Application,
) -> str:
    lines = [f"closed {sender.closed} {receiver.closed}"]
    for name, connection, app in (("a", left, sender), ("b", right, receiver)):
        if connection is not None:
            lines.append(
                f"{name}: wrote {app.written} of {len(app.stream)}, received {app.received_length}"
            )
            lines.append(description(connection))
    return "\n".join(lines)


@pytest.mark.slow
@settings(max_examples=cases(300), suppress_health_check=list(HealthCheck))
# Where an earlier stack stood still, and where it was busy without end.
@example(replace(PLAIN, trains=False))
@example(
    replace(PLAIN, seed=43804, down_bytes=60_000, impairments=(replace(CLEAN, reordering=0.3),) * 3)
)
@example(replace(PLAIN, pacing=True))
# Where one that repeats everything sent the data of a tail loss probe again, as new ones.
@example(
    replace(
        PLAIN,
        seed=0,
        mptcp=False,
        scheduler="redundant",
        congestion="balia",
        up_bytes=0,
        down_bytes=300_000,
        send_buffer=1_000,
        receive_buffer=600,
        autotune=True,
        impairments=(replace(CLEAN, loss=0.1, delay_ms=0),) * 3,
    )
)
# Where a join that was never confirmed, and reset when both streams were done, passed for a subflow
# that was closed in order: the other, silent for 20 s, was given up, and the peer never heard.
@example(
    replace(
        PLAIN,
        seed=969505457,
        sack=False,
        nagle=True,
        trains=False,
        scheduler="2012",
        congestion="balia",
        path_count=2,
        living=1,
        impairments=(replace(CLEAN, jitter_ms=40), replace(CLEAN, delay_ms=200), CLEAN),
        outages=((0, 122, 20_000),),
        real_bytes=False,
        up_bytes=0,
        down_bytes=1,
        send_buffer=1,
        receive_buffer=600,
        autotune=False,
    )
)
@given(drawn_cases)
def test_every_byte_arrives_once_in_order(case: Case) -> None:
    run(case)
