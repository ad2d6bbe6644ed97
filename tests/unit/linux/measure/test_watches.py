"""Which connections live, from what the workers and both ends' sockets have counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.linux.two_links import scenario
from tests.times import SECOND

from mptcplab.linux.measure.watches import Watches
from mptcplab.linux.traffic.flow import Connection

TEXT = """
duration = "60s"
hosts = ["a", "b"]
[links.l]
between = ["a", "b"]
rate = "10Mb/s"
rtt = "10ms"
[flows.f]
from = "a"
to = "b"
"""


class Traffic:
    """One flow's traffic, as far as it is watched."""

    def __init__(self, connection: Connection) -> None:
        self.flow = connection.flow
        self.connections = [connection]
        self.written: int | None = 0
        self.delivered = 0

    def written_bytes(self) -> list[int] | None:
        return None if self.written is None else [self.written]

    def delivered_bytes(self) -> list[int]:
        return [self.delivered]


class Flows:
    """All flows of a run: one."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = [traffic]

    def connections(self) -> list[Connection]:
        return self.traffic[0].connections


class Run:
    """A run with one connection, and what its sockets count."""

    def __init__(self, folder: Path, text: str = TEXT) -> None:
        asked = scenario(folder, text)
        self.connection = Connection(asked.flows[0], 0, 5001)
        self.traffic = Traffic(self.connection)
        self.watches = Watches(asked, Flows(self.traffic))  # type: ignore[arg-type]

    def look(self, time_s: float, *, acked: int = 0, carried: int = 0) -> None:
        """Sample the connection: what it acknowledged, and what its subflow carried."""
        same: dict[str, Any] = {"host": "a", "flow": "f", "connection": 0}
        subflow = same | {
            "subflow": 0,
            "link": "l",
            "state": "ESTABLISHED",
            "in_flight_bytes": 2896,
            "rto_ns": 224_000_000,
            "send_window_bytes": 0,
            "bytes_acked": carried,
            "bytes_received": 0,
        }
        connection = same | {"bytes_acked": acked, "bytes_received": 0}
        self.watches.look(round(time_s * SECOND), [subflow], [connection])

    def reasons(self) -> list[str]:
        return [each.reason for _, each in self.watches.judgements() if each.reason]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path)
    made.connection.established.update({"sender", "receiver"})
    return made


def test_a_connection_that_moves_lives(run: Run) -> None:
    run.traffic.written = 10_000_000
    for second in range(1, 60):
        run.traffic.delivered = 1000 * second
        run.look(second)
    assert run.reasons() == []
    assert not run.watches.is_hopeless()
    assert run.watches.waiting_bytes() == {"f": 10_000_000 - 59_000}


def test_what_a_subflow_carries_is_no_progress(run: Run) -> None:
    run.traffic.written, run.traffic.delivered = 10_000_000, 1_000_000
    run.look(5, acked=1_000_000)
    for second in range(6, 60):
        run.look(second, acked=1_000_000, carried=1000 * second)
    [reason] = run.reasons()
    assert reason.startswith(
        "flow f connection 0: no progress from 5 s on, with 9000000 bytes waiting: a: l ESTABLISHED"
    )
    assert "window closed" in reason
    assert reason.endswith("b: no subflow")
    assert run.watches.is_hopeless()
    assert run.watches.has_died(run.connection)


def test_a_program_that_has_closed_its_sockets_is_not_dead(run: Run) -> None:
    run.traffic.written = None  # only the program knows
    run.look(5, acked=1_000_000)
    run.watches.look(6 * SECOND, [], [])
    run.watches.look(59 * SECOND, [], [])
    assert run.reasons() == []


def test_a_connection_that_is_over_needs_no_progress(run: Run) -> None:
    run.traffic.written = run.traffic.delivered = 1_000_000
    run.connection.bytes_received = 1_000_000
    for second in (1, 59):
        run.look(second, acked=1_000_000)
    assert run.reasons() == []
    assert run.watches.is_hopeless()


def test_a_connection_that_never_came_up_is_hopeless_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.connection.established.add("sender")
    run.look(1)
    assert run.watches.is_hopeless()
    assert run.reasons() == [
        "flow f connection 0: the connection never came up: no answer to its SYN"
    ]
    run.connection.errors.append("sender: No route to host")
    run.look(2)
    assert run.reasons()[0].endswith("never came up: sender: No route to host")


def test_links_that_the_timeline_cut_kill_no_connection(tmp_path: Path) -> None:
    run = Run(tmp_path, TEXT + '[[timeline]]\nat = "5s"\ndown = "l"\n')
    run.connection.established.update({"sender", "receiver"})
    run.traffic.written = 1_000_000
    for second in (1, 4, 6, 59):
        run.look(second, acked=1000)
    assert run.reasons() == []
    [(_, judgement)] = run.watches.judgements()
    assert judgement.note.endswith("the scenario had taken its links down")
    assert run.watches.is_hopeless()
