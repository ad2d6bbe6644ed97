from __future__ import annotations

from tests.times import MS

from mptcplab.linux.path_management.rejoin import Rejoining
from mptcplab.loop import VirtualLoop


class Peer:
    """A link's subflow that joins at the n-th announcement."""

    def __init__(self, loop: VirtualLoop, needed: int, *, endpoint: bool = True) -> None:
        self.loop = loop
        self.needed = needed
        self.endpoint = endpoint
        self.calls: list[tuple[str, int]] = []

    def is_missing(self, link: str) -> bool:
        return self.needed > 0

    def withdraw(self, link: str) -> bool:
        self.calls.append((f"withdraw {link}", self.loop.now_ns // MS))
        return self.endpoint

    def announce(self) -> None:
        self.calls.append(("announce", self.loop.now_ns // MS))
        self.needed -= 1


def watched(needed: int, *, endpoint: bool = True) -> tuple[VirtualLoop, Peer, Rejoining]:
    loop = VirtualLoop()
    peer = Peer(loop, needed, endpoint=endpoint)
    return loop, peer, Rejoining(loop, peer.is_missing, peer.withdraw, peer.announce)


def test_a_subflow_that_came_back_is_left_alone() -> None:
    loop, peer, rejoining = watched(0)
    rejoining.came_up("lan1", 0)
    loop.run(5000 * MS)
    assert peer.calls == []


def test_a_missing_subflow_is_asked_for_again_after_its_round_trips() -> None:
    loop, peer, rejoining = watched(1)
    rejoining.came_up("wan", 50 * MS)
    loop.run(5000 * MS)
    assert peer.calls == [("withdraw wan", 500), ("announce", 600)]


def test_it_gives_up_after_three_attempts() -> None:
    loop, peer, rejoining = watched(9)
    rejoining.came_up("lan1", 0)
    loop.run(5000 * MS)
    assert [at for what, at in peer.calls if what == "withdraw lan1"] == [300, 700, 1100]


def test_without_an_endpoint_there_is_nothing_to_repeat() -> None:
    loop, peer, rejoining = watched(1, endpoint=False)
    rejoining.came_up("lan1", 0)
    loop.run(5000 * MS)
    assert peer.calls == [("withdraw lan1", 300)]


def test_a_link_that_fails_again_is_looked_after_from_its_next_return() -> None:
    loop, peer, rejoining = watched(1)
    rejoining.came_up("lan1", 0)
    loop.call_at(100 * MS, lambda: rejoining.went_down("lan1"))
    loop.call_at(1000 * MS, lambda: rejoining.came_up("lan1", 0))
    loop.run(5000 * MS)
    assert peer.calls == [("withdraw lan1", 1300), ("announce", 1400)]
