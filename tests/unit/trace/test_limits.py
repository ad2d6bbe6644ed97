"""Transfers built so that one cause holds them back: what their captures say, at both ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path as PathOfFile
from typing import Any

import pytest
from tests.unit.trace.flows import ENDLESS, MS, MSS, Path, Transfer, pcap

from mptcplab import trace
from mptcplab.limits.causes import Cause
from mptcplab.trace.connections.model import Connection
from mptcplab.trace.output.explain import explain_connection
from mptcplab.trace.two_captures import are_two_ends, ends_of

A = Cause


@dataclass(frozen=True)
class Case:
    """A transfer, and what must be said of it from each end."""

    make: Callable[[], Transfer]
    cause: Cause
    words: str
    least: float = 0.8
    at_server: Cause | None = None
    """None: the same."""


def growing(now: int) -> int:
    """A congestion window in its slow growth: a segment every two round trips."""
    return 20 * MSS + now // (40 * MS) * MSS


def every(step_ms: int, size: int, until_ms: int = 2000) -> list[tuple[int, int]]:
    return [(k * MS, size) for k in range(20, until_ms, step_ms)]


CASES = {
    "paced writer": Case(
        lambda: Transfer([Path()], writes=every(50, 4000)), A.APPLICATION, "nothing to send"
    ),
    "long pauses": Case(
        lambda: Transfer([Path()], writes=[(30 * MS, 50_000), (1500 * MS, 50_000)]),
        A.APPLICATION, "nothing to send",
    ),
    "slow reader": Case(
        lambda: Transfer([Path()], receive_buffer=lambda _: 128_000, read_bps=2e6),
        A.RECEIVE_WINDOW, "does not read fast enough",
    ),
    "stopped reader": Case(
        lambda: Transfer([Path()], receive_buffer=lambda _: 64_000, read_bps=0.1e6, total=200_000),
        A.RECEIVE_WINDOW, "does not read fast enough",
    ),
    "small receive buffer": Case(
        lambda: Transfer([Path()], receive_buffer=lambda _: 32_000),
        A.RECEIVE_WINDOW, "of 32 kB is all in flight",
    ),
    "autotuning": Case(
        lambda: Transfer([Path()], receive_buffer=lambda now: 20_000 + now // (10 * MS) * 1000),
        A.RECEIVE_WINDOW, "still grows", 0.5,
    ),
    "small send buffer": Case(
        lambda: Transfer([Path()], send_buffer=30_000), A.SEND_BUFFER, "never more", 0.8,
        at_server=A.UNKNOWN,
    ),
    "late DATA_ACKs": Case(
        lambda: Transfer(
            [Path(delay_ns=MS)], send_buffer=60_000, data_acks_every_ns=50 * MS
        ),
        A.SEND_BUFFER, "DATA_ACKs are missing for 60 kB",
    ),
    "late DATA_ACKs, two subflows": Case(
        lambda: Transfer(
            [Path(delay_ns=MS, cwnd=lambda _: 20_000), Path(delay_ns=2 * MS)],
            send_buffer=100_000, data_acks_every_ns=30 * MS,
        ),
        A.SEND_BUFFER, "DATA_ACKs are missing for 100 kB",
    ),
    "small writes": Case(
        lambda: Transfer([Path()], writes=every(1, 100)), A.APPLICATION, "nothing to send"
    ),
    "small writes, slow reader": Case(
        lambda: Transfer(
            [Path()], writes=every(1, 100), receive_buffer=lambda _: 16_000, read_bps=0.2e6
        ),
        A.RECEIVE_WINDOW, "does not read fast enough",
    ),
    "full link": Case(
        lambda: Transfer([Path(rate_bps=8e6, cwnd=lambda _: 60_000)]), A.LINK, "wait in a queue"
    ),
    "growing window": Case(
        lambda: Transfer([Path(cwnd=growing)]), A.CONGESTION_WINDOW, "in flight"
    ),
    "losses": Case(
        lambda: Transfer(
            [Path(cwnd=lambda now: 10 * MSS + now // MS % 200 * 50,
                  lost=frozenset(range(50, 2000, 50)), repair_ns=25 * MS)]
        ),
        A.CONGESTION_WINDOW, "sent again", 0.7,
    ),
    "head of line, lost": Case(
        lambda: Transfer(
            [Path(cwnd=lambda _: 40_000, lost=frozenset(range(20, 900, 12)), repair_ns=150 * MS),
             Path(delay_ns=12 * MS, cwnd=lambda _: 40_000)],
            receive_buffer=lambda _: 60_000,
        ),
        A.HEAD_OF_LINE, "lost on subflow 0", 0.5,
    ),
    "head of line, slow": Case(
        lambda: Transfer(
            [Path(delay_ns=150 * MS, cwnd=lambda _: 20_000), Path(delay_ns=5 * MS)],
            receive_buffer=lambda _: 60_000,
        ),
        A.HEAD_OF_LINE, "subflow 0, whose round trip is longer", 0.5,
    ),
    "dead path": Case(
        lambda: Transfer(
            [Path(dead_ns=300 * MS, repair_ns=200 * MS)], duration_ns=4000 * MS, total=ENDLESS,
            receive_buffer=lambda _: 400_000,
        ),
        A.STALLED, "nothing moves", 0.7, at_server=A.RECEIVE_WINDOW,  # until nothing arrived
    ),
}  # fmt: skip


def shares(connection: Connection) -> dict[Cause, float]:
    """Return the share of each cause in what the client sends."""
    (held,) = [held for held in connection.held if held.side == 0]
    out: dict[Cause, float] = {}
    for limit in held.limits:
        out[limit.cause] = out.get(limit.cause, 0.0) + limit.share
    assert sum(out.values()) == pytest.approx(1)
    return out


@pytest.mark.parametrize("named", [True, False], ids=["numbered", "without identification"])
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_one_capture_that_overlap_are_one(
    parts: int, named: bool, tmp_path: PathOfFile
) -> None:
    transfer = Transfer([Path(rate_bps=8e6, cwnd=lambda _: 60_000)])
    if not named:
        transfer._ids = repeat(0)
    rows = sorted(transfer.run().client, key=lambda row: row[0])
    paths = []
    for k in range(parts):
        first, last = (len(rows) * each // (4 * parts) for each in (4 * k - (k > 0), 4 * k + 5))
        paths.append(tmp_path / f"{k}.pcap")
        paths[-1].write_bytes(pcap(rows[first:last]))
    assert ends_of([[path] for path in paths]) is None
    assert not are_two_ends(paths[:1], paths[1:2])
    whole = tmp_path / "whole.pcap"
    whole.write_bytes(pcap(rows))
    ((one,), (other,)) = (trace.open(each).connections for each in ([whole], paths))
    assert [half.packets for half in other.subflows[0].halves] == [
        half.packets for half in one.subflows[0].halves
    ]
    assert sum(half.retransmissions for half in other.subflows[0].halves) == 0
    assert trace.open(paths).reading.placer.copies.count > 100
    assert shares(other) == shares(one)


@pytest.mark.parametrize("rate_bps", [8e6, 10e6, 12e6])
def test_writes_that_overlap_with_the_answers_to_those_before(read: Any, rate_bps: float) -> None:
    """Each waits in the link's queue for itself alone, which is empty before the next."""
    writes = [(when + k * 7 % 5 * MS, size) for k, (when, size) in enumerate(every(23, 12_000))]
    transfer = Transfer([Path(rate_bps=rate_bps)], writes=writes).run()
    (connection,) = read(transfer.captures()[0]).connections
    assert shares(connection).get(A.APPLICATION, 0) >= 0.8, shares(connection)


@pytest.mark.parametrize("end", ["client", "server"])
@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_the_one_that_was_built_in(read: Any, name: str, end: str) -> None:
    case = CASES[name]
    at_client, at_server = case.make().run().captures()
    (connection,) = read(at_client if end == "client" else at_server).connections
    found = shares(connection)
    cause = case.cause if end == "client" else case.at_server or case.cause
    assert found.get(cause, 0) >= case.least, found
    if cause is not Cause.UNKNOWN:
        details = [limit.detail for limit in connection.limits if limit.cause is cause]
        assert cause is not case.cause or any(case.words in detail for detail in details), details


def test_a_reader_that_reads_slowly_is_not_said_not_to_read(read: Any) -> None:
    transfer = CASES["small writes, slow reader"].make().run()
    for capture in transfer.captures():
        opened = read(capture)
        (connection,) = opened.connections
        text = "\n".join(explain_connection(opened, connection))
        assert "does not read fast enough, and takes " in text
        assert "the application does not read" not in text
        assert shares(connection).get(Cause.CONGESTION_WINDOW, 0) == 0


def test_bytes_that_their_subflow_has_acknowledged_block_nothing(read: Any) -> None:
    transfer = CASES["late DATA_ACKs, two subflows"].make().run()
    for capture in transfer.captures():
        opened = read(capture)
        (connection,) = opened.connections
        assert "head-of-line blocked" not in "\n".join(explain_connection(opened, connection))


def test_a_window_whose_scale_is_not_known_is_closed_at_0_alone(read: Any) -> None:
    """128 kB are 1,000 units of 128 bytes, which is less than a segment of bytes."""
    transfer = Transfer([Path()], receive_buffer=lambda _: 128_000, read_bps=2e6).run()
    rows = sorted(transfer.server, key=lambda row: row[0])[10:]
    (connection,) = read(pcap(rows)).connections
    assert shares(connection) == {Cause.UNKNOWN: 1}
