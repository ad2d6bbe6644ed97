from __future__ import annotations

from typing import Any

from tests.times import MS

from mptcplab.linux.measure.last_samples import LastSamples
from mptcplab.linux.traffic.flow import Connection
from mptcplab.loop import VirtualLoop
from mptcplab.scenario.model import Flow


class Held:
    """A flow whose connections are done, and the sockets of its two hosts."""

    def __init__(self, *ports: int) -> None:
        self.loop = VirtualLoop()
        self.connections = [Connection(Flow("main", "a", "b"), k, p) for k, p in enumerate(ports)]
        self.outstanding: dict[tuple[str, int], set[str | None] | None] = {}
        self.up = {"lan1", "lan2"}
        self.samples: list[int] = []
        self.released: dict[int, int] = {}
        self.last = LastSamples(
            self.loop, self, [Sockets(self, "a"), Sockets(self, "b")], self.sample, self.is_up
        )

    @property
    def traffic(self) -> list[Any]:
        return [self]

    def held(self) -> list[Connection]:
        return [one for one in self.connections if one.port not in self.released]

    def release(self, connection: Connection) -> None:
        self.released[connection.port] = self.loop.now_ns // MS

    def sample(self) -> int:
        self.samples.append(self.loop.now_ns // MS)
        return self.loop.now_ns

    def is_up(self, link: str) -> bool:
        return link in self.up


class Sockets:
    def __init__(self, owner: Held, host: str) -> None:
        self.owner, self.host = owner, host

    def outstanding(self, connection: Connection, since_ns: int) -> set[str | None] | None:
        return self.owner.outstanding.get((self.host, connection.port), set())


def test_what_is_acknowledged_is_sampled_once_and_let_go() -> None:
    held = Held(5001, 5002)
    held.last.look()
    assert held.samples == [0]
    assert held.released == {5001: 0, 5002: 0}


def test_nothing_held_is_nothing_sampled() -> None:
    held = Held()
    held.last.look()
    held.loop.run(5000 * MS)
    assert held.samples == []


def test_it_looks_again_while_a_subflow_repeats_what_it_sent() -> None:
    held = Held(5001, 5002)
    held.outstanding["b", 5002] = {"lan1"}
    held.last.look()
    held.loop.run(25 * MS)
    held.outstanding.clear()
    held.loop.run(5000 * MS)
    assert held.released == {5001: 0, 5002: 30}
    assert held.samples == [0, 10, 30]


def test_a_sample_that_has_not_come_is_waited_for() -> None:
    held = Held(5001)
    held.outstanding["a", 5001] = None
    held.last.look()
    held.loop.run(5 * MS)
    held.outstanding.clear()
    held.loop.run(5000 * MS)
    assert held.released == {5001: 10}


def test_a_link_that_is_down_is_not_waited_for() -> None:
    held = Held(5001)
    held.outstanding["a", 5001] = {"lan2"}
    held.up.remove("lan2")
    held.last.look()
    assert held.released == {5001: 0}


def test_patience_ends() -> None:
    held = Held(5001)
    held.outstanding["a", 5001] = {"lan2", None}
    held.last.look()
    held.last.look()  # while it waits, another look changes nothing
    held.loop.run(10_000 * MS)
    assert 2000 < held.released[5001] < 5000
    assert len(held.samples) < 12
