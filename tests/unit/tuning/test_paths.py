"""The full mesh of a scenario opens the pairs of addresses that links join, and all of them."""

from __future__ import annotations

import pytest

from mptcplab.stack.path_managers.base import (
    AnnounceAddress,
    LocalAddress,
    OpenSubflow,
    PathView,
    RemoteAddress,
    SubflowPath,
    SubflowState,
)
from mptcplab.tuning.paths import RoutedMesh

PORT = 5001


def ours(link: int) -> bytes:
    return bytes([10, 0, link, 1])


def peers(link: int) -> bytes:
    return bytes([10, 0, link, 2])


def view_of(links: int, *, client: bool) -> PathView:
    """Return a connection with its initial subflow on link 0; the peer announced the others."""
    initial = RemoteAddress(0, peers(0), PORT)
    view = PathView(client, ours(0), initial)
    view.local_addresses = [LocalAddress(ours(link), link + 1) for link in range(links)]
    others = [RemoteAddress(link + 1, peers(link), PORT) for link in range(1, links)]
    view.remote_addresses = [initial, *others]
    view.subflows = [
        SubflowPath(0, 0, ours(0), 40000, 0, peers(0), PORT, SubflowState.ESTABLISHED, joined=False)
    ]
    return view


@pytest.mark.parametrize("links", [2, 6, 8, 12, 40])
def test_each_link_gets_one_subflow(links: int) -> None:
    manager = RoutedMesh(True, frozenset((ours(link), peers(link)) for link in range(links)))
    commands = manager.on_established(view_of(links, client=True))
    opened = [
        (command.local_address, command.remote.address)
        for command in commands
        if isinstance(command, OpenSubflow)
    ]
    assert opened == [(ours(link), peers(link)) for link in range(1, links)]


def test_the_server_announces_and_accepts_what_the_flow_may_use() -> None:
    manager = RoutedMesh(True, frozenset((ours(link), peers(link)) for link in range(12)))
    view = view_of(20, client=False)  # 8 more on links of other flows
    announced = [
        command.address
        for command in manager.on_established(view)
        if isinstance(command, AnnounceAddress)
    ]
    assert announced == [ours(link) for link in range(1, 12)]
    view.subflows *= 12
    assert manager.accepts(view)
    view.subflows *= 2
    assert not manager.accepts(view)
