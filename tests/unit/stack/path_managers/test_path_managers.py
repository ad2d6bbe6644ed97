"""Full mesh, ndiffports and the bounded retries they share."""

from __future__ import annotations

import pytest
from tests.addresses import A6, B6, CLIENT, PORT, SERVER
from tests.times import SECOND

from mptcplab.stack.path_managers import (
    FullMesh,
    InitialOnly,
    NdiffPorts,
    PathManager,
    Retries,
    path_manager_for_ndiffports,
)
from mptcplab.stack.path_managers.base import (
    AnnounceAddress,
    CloseSubflow,
    Command,
    LocalAddress,
    OpenSubflow,
    PathView,
    RemoteAddress,
    RemoveAddress,
    SubflowPath,
    SubflowState,
)
from mptcplab.wire.ip import parse_address

A1, A2, A3 = map(parse_address, CLIENT)
B1, B2, _ = map(parse_address, SERVER)
V6_A, V6_B = parse_address(A6), parse_address(B6)
INITIAL = RemoteAddress(0, B1, PORT)


def a_view(*addresses: bytes, client: bool = True) -> PathView:
    """A connection from A1 to B1; the host's addresses have the ids 1, 2, ..."""
    view = PathView(is_client=client, initial_local=A1, initial_remote=INITIAL)
    view.local_addresses = [LocalAddress(one, id_) for id_, one in enumerate(addresses, 1)]
    add(view, 0, A1, INITIAL, joined=False)
    return view


def add(
    view: PathView, local_id: int, local: bytes, remote: RemoteAddress, joined: bool = True
) -> SubflowPath:
    path = SubflowPath(
        subflow_id=len(view.subflows),
        local_id=local_id,
        local_address=local,
        local_port=40000 + len(view.subflows),
        remote_id=remote.address_id,
        remote_address=remote.address,
        remote_port=remote.port,
        state=SubflowState.ESTABLISHED,
        joined=joined,
    )
    view.subflows.append(path)
    return path


def carry_out(view: PathView, commands: list[Command]) -> list[Command]:
    """Open what is to be opened and close what is to be closed."""
    for command in commands:
        if isinstance(command, OpenSubflow):
            add(view, command.local_id, command.local_address, command.remote)
        elif isinstance(command, CloseSubflow):
            view.subflows = [one for one in view.subflows if one.subflow_id != command.subflow_id]
    return commands


def opened(commands: list[Command]) -> list[tuple[int, bytes, bytes]]:
    return [
        (one.local_id, one.local_address, one.remote.address)
        for one in commands
        if isinstance(one, OpenSubflow)
    ]


def test_initial_only_opens_nothing_and_accepts_joins() -> None:
    manager, view = InitialOnly(), a_view(A1, A2)
    assert manager.on_established(view) == []
    assert manager.on_remote_added(view, RemoteAddress(2, B2, PORT)) == []
    assert manager.accepts(view)
    assert manager.deadline_ns() is None
    assert manager.on_timeout(view) == []


def test_a_removed_address_takes_its_subflows_with_it() -> None:
    manager, view = InitialOnly(), a_view(A1, A2)
    path = add(view, 2, A2, RemoteAddress(7, B2, PORT))
    assert manager.on_remote_removed(view, 7) == [CloseSubflow(path.subflow_id)]


def test_full_mesh_client_opens_every_pair_once() -> None:
    manager, view = FullMesh(), a_view(A1, A2)
    commands = carry_out(view, manager.on_established(view))
    assert commands == [AnnounceAddress(2, A2), OpenSubflow(2, A2, INITIAL)]
    remote = RemoteAddress(2, B2, PORT)
    view.remote_addresses.append(remote)
    assert opened(carry_out(view, manager.on_remote_added(view, remote))) == [
        (0, A1, B2),
        (2, A2, B2),
    ]
    assert manager.on_remote_added(view, remote) == []


def test_full_mesh_server_announces_and_opens_nothing() -> None:
    manager, view = FullMesh(), a_view(A1, A2, A3, client=False)
    assert manager.on_established(view) == [AnnounceAddress(2, A2), AnnounceAddress(3, A3)]
    remote = RemoteAddress(2, B2, PORT)
    view.remote_addresses.append(remote)
    assert manager.on_remote_added(view, remote) == []


def test_full_mesh_keeps_address_families_apart() -> None:
    manager, view = FullMesh(), a_view(A1, V6_A)
    assert opened(manager.on_established(view)) == []
    remote = RemoteAddress(3, V6_B, PORT)
    view.remote_addresses.append(remote)
    assert opened(manager.on_remote_added(view, remote)) == [(2, V6_A, V6_B)]


def test_full_mesh_does_not_join_where_the_peer_denies_it() -> None:
    manager, view = FullMesh(), a_view(A1, A2)
    view.peer_denies_initial = True
    assert opened(manager.on_established(view)) == []


def test_full_mesh_withdraws_a_link_that_goes_and_restores_one_that_returns() -> None:
    manager, view = FullMesh(), a_view(A1, A2)
    carry_out(view, manager.on_established(view))
    second = view.local_addresses[1]
    second.up = False
    closed = carry_out(view, manager.on_local_down(view, second))
    assert closed == [RemoveAddress(2), CloseSubflow(1)]
    second.up = True
    assert manager.on_local_up(view, second) == [
        AnnounceAddress(2, A2),
        OpenSubflow(2, A2, INITIAL),
    ]


def test_full_mesh_makes_after_break() -> None:
    manager, view = FullMesh(), a_view(A1)
    carry_out(view, manager.on_established(view))
    first = view.local_addresses[0]
    first.up = False
    assert carry_out(view, manager.on_local_down(view, first)) == [
        RemoveAddress(0),
        CloseSubflow(0),
    ]
    first.up = True
    assert opened(manager.on_local_up(view, first)) == [(0, A1, B1)]


def failing(manager: PathManager, view: PathView, path: SubflowPath) -> list[int]:
    """Let every attempt fail at once; return the seconds from failure to next attempt."""
    waits = []
    for _ in range(50):
        if path in view.subflows:
            view.subflows.remove(path)
        failed_ns = view.now_ns
        manager.on_subflow_closed(view, path, failed=True)
        deadline_ns = manager.deadline_ns()
        if deadline_ns is None:
            break
        view.now_ns = deadline_ns - 1
        assert manager.on_timeout(view) == []
        view.now_ns = deadline_ns
        assert len(opened(manager.on_timeout(view))) == 1
        waits.append((deadline_ns - failed_ns) // SECOND)
    return waits


def test_full_mesh_tries_again_with_doubled_waits_and_then_gives_up() -> None:
    manager, view = FullMesh(), a_view(A1, A2)
    carry_out(view, manager.on_established(view))
    path = view.subflows[1]
    assert failing(manager, view, path) == [1, 2, 4, 8, 16, 32, 60, 60]
    # Given up: no other event brings it back ...
    remote = RemoteAddress(2, B2, PORT)
    view.remote_addresses.append(remote)
    assert (2, A2, B1) not in opened(manager.on_remote_added(view, remote))
    # ... until its link does.
    assert (2, A2, B1) in opened(manager.on_local_up(view, view.local_addresses[1]))


def test_a_success_starts_the_count_anew() -> None:
    manager, view = FullMesh(Retries(attempts=2)), a_view(A1, A2)
    carry_out(view, manager.on_established(view))
    path = view.subflows[1]
    assert failing(manager, view, path) == [1, 2]
    manager.on_subflow_established(view, path)
    assert failing(manager, view, path) == [1, 2]


def test_a_due_path_whose_ends_are_gone_is_dropped() -> None:
    manager, view = FullMesh(), a_view(A1, A2)
    carry_out(view, manager.on_established(view))
    manager.on_subflow_closed(view, view.subflows.pop(), failed=True)
    view.now_ns = 2 * SECOND
    view.local_addresses[1].up = False
    assert manager.on_timeout(view) == []
    assert manager.deadline_ns() is None


def test_a_subflow_that_was_closed_in_order_is_not_opened_again() -> None:
    manager, view = FullMesh(), a_view(A1, A2)
    carry_out(view, manager.on_established(view))
    manager.on_subflow_closed(view, view.subflows.pop(), failed=False)
    assert manager.deadline_ns() is None


def test_full_mesh_is_bounded() -> None:
    manager, view = FullMesh(), a_view(*(bytes([10, 0, 9, host]) for host in range(1, 12)))
    view.initial_local = bytes([10, 0, 9, 1])
    for number in range(20):
        remote = RemoteAddress(number + 1, bytes([10, 1, number, 1]), PORT)
        view.remote_addresses.append(remote)
        carry_out(view, manager.on_remote_added(view, remote))
    assert len(view.subflows) == 32
    assert not manager.accepts(view)


def test_ndiffports_opens_from_the_same_address() -> None:
    manager, view = NdiffPorts(3), a_view(A1, A2)
    assert manager.on_established(view) == [OpenSubflow(0, A1, INITIAL)] * 2
    server = a_view(A1, client=False)
    assert NdiffPorts(3).on_established(server) == []


def test_ndiffports_replaces_only_if_asked_to() -> None:
    manager, view = NdiffPorts(2), a_view(A1)
    carry_out(view, manager.on_established(view))
    manager.on_subflow_closed(view, view.subflows.pop(), failed=True)
    assert manager.deadline_ns() is None
    manager, view = NdiffPorts(2, Retries(attempts=3)), a_view(A1)
    carry_out(view, manager.on_established(view))
    path = view.subflows[1]
    assert failing(manager, view, path) == [1, 2, 4]
    manager.on_subflow_established(view, path)
    assert failing(manager, view, path) == [1, 2, 4]


def test_the_sysctl_of_2012() -> None:
    assert isinstance(path_manager_for_ndiffports(0), InitialOnly)
    assert isinstance(path_manager_for_ndiffports(1), FullMesh)
    four = path_manager_for_ndiffports(4)
    assert isinstance(four, NdiffPorts)
    assert four.subflows == 4
    with pytest.raises(ValueError, match="mptcp_ndiffports"):
        path_manager_for_ndiffports(-1)
    with pytest.raises(ValueError, match="at least 1"):
        NdiffPorts(0)
