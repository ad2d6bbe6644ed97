"""Linux's endpoints, flags and limits, and the variant that watches links."""

from __future__ import annotations

import pytest
from tests.addresses import A6, CLIENT, PORT, SERVER
from tests.times import SECOND

from mptcplab.stack.path_managers import Endpoint, EndpointFlag, Endpoints, Limits
from mptcplab.stack.path_managers.base import (
    AnnounceAddress,
    CloseSubflow,
    Command,
    LocalAddress,
    OpenSubflow,
    PathView,
    RemoteAddress,
    RemoveAddress,
    SetPriority,
    SubflowPath,
    SubflowState,
)
from mptcplab.stack.path_managers.link_aware import LinkAwareEndpoints
from mptcplab.wire.ip import parse_address

A1, A2, A3 = map(parse_address, CLIENT)
B1, B2, B3 = map(parse_address, SERVER)
V6 = parse_address(A6)
INITIAL = RemoteAddress(0, B1, PORT)
FURTHER = RemoteAddress(5, B2, PORT)

LIMITS = Limits()
SUBFLOW, SIGNAL = EndpointFlag.SUBFLOW, EndpointFlag.SIGNAL
BACKUP, FULLMESH, LAMINAR = EndpointFlag.BACKUP, EndpointFlag.FULLMESH, EndpointFlag.LAMINAR


def a_view(client: bool = True) -> PathView:
    view = PathView(is_client=client, initial_local=A1, initial_remote=INITIAL)
    view.local_addresses = [LocalAddress(one, id_) for id_, one in enumerate((A1, A2, A3), 1)]
    add(view, 0, A1, INITIAL, joined=False)
    return view


def add(
    view: PathView,
    local_id: int,
    local: bytes,
    remote: RemoteAddress,
    joined: bool = True,
    ours: bool = True,
) -> SubflowPath:
    path = SubflowPath(
        subflow_id=max((one.subflow_id for one in view.subflows), default=-1) + 1,
        local_id=local_id,
        local_address=local,
        local_port=40000,
        remote_id=remote.address_id,
        remote_address=remote.address,
        remote_port=remote.port,
        state=SubflowState.ESTABLISHED,
        joined=joined,
        opened_by_us=ours,
    )
    view.subflows.append(path)
    return path


def carry_out(view: PathView, commands: list[Command]) -> list[Command]:
    for command in commands:
        if isinstance(command, OpenSubflow):
            add(view, command.local_id, command.local_address or A1, command.remote)
        elif isinstance(command, CloseSubflow):
            view.subflows = [one for one in view.subflows if one.subflow_id != command.subflow_id]
    return commands


def opened(commands: list[Command]) -> list[tuple[int, RemoteAddress]]:
    return [(one.local_id, one.remote) for one in commands if isinstance(one, OpenSubflow)]


def announce(view: PathView, manager: Endpoints, remote: RemoteAddress) -> list[Command]:
    view.remote_addresses.append(remote)
    return carry_out(view, manager.on_remote_added(view, remote))


def plain(*flags: EndpointFlag) -> list[Endpoint]:
    """Endpoints 1, 2, ... on A1, A2, ..."""
    addresses = (A1, A2, A3)
    return [Endpoint(number, addresses[number - 1], one) for number, one in enumerate(flags, 1)]


def test_subflow_endpoints_join_the_initial_address_only() -> None:
    manager, view = Endpoints(plain(SUBFLOW, SUBFLOW, SUBFLOW), Limits(8, 8)), a_view()
    assert manager.on_established(view) == [
        OpenSubflow(2, A2, INITIAL),
        OpenSubflow(3, A3, INITIAL),
    ]


def test_the_subflow_limit_counts_further_subflows_and_binds_joins_too() -> None:
    manager, view = Endpoints(plain(SUBFLOW, SUBFLOW, SUBFLOW), Limits(1)), a_view()
    assert manager.accepts(view)
    assert carry_out(view, manager.on_established(view)) == [OpenSubflow(2, A2, INITIAL)]
    assert not manager.accepts(view)


def test_default_limits_are_those_of_linux() -> None:
    assert Limits() == Limits(subflows=2, add_addr_accepted=0)
    view = a_view()
    manager = Endpoints([], Limits())
    assert announce(view, manager, FURTHER) == []


def test_room_that_a_dead_subflow_leaves_goes_to_an_untried_endpoint() -> None:
    manager, view = Endpoints(plain(SUBFLOW, SUBFLOW, SUBFLOW), Limits(1)), a_view()
    carry_out(view, manager.on_established(view))
    dead = view.subflows.pop()
    commands = carry_out(view, manager.on_subflow_closed(view, dead, failed=True))
    assert commands == [OpenSubflow(3, A3, INITIAL)]
    # The one that died is never opened again.
    dead = view.subflows.pop()
    assert manager.on_subflow_closed(view, dead, failed=True) == []
    assert manager.deadline_ns() is None


def test_signal_endpoints_are_announced_with_port_and_initial_one_not() -> None:
    endpoints = [Endpoint(1, A1, SIGNAL), Endpoint(2, A2, SIGNAL), Endpoint(3, A1, SIGNAL, 9000)]
    manager, view = Endpoints(endpoints, Limits()), a_view(client=False)
    assert manager.on_established(view) == [AnnounceAddress(2, A2), AnnounceAddress(3, A1, 9000)]
    assert manager.on_subflow_established(view, view.subflows[0]) == []


def test_signal_and_subflow_does_both() -> None:
    manager, view = Endpoints(plain(SUBFLOW, SIGNAL | SUBFLOW), Limits()), a_view()
    assert manager.on_established(view) == [AnnounceAddress(2, A2), OpenSubflow(2, A2, INITIAL)]


def test_an_announced_address_is_joined_from_where_routing_says() -> None:
    manager, view = Endpoints(plain(SUBFLOW), Limits(2, 1)), a_view()
    assert announce(view, manager, FURTHER) == [OpenSubflow(0, b"", FURTHER)]
    # The second exceeds the limit on accepted addresses, until the first is removed.
    third = RemoteAddress(6, B3, PORT)
    assert announce(view, manager, third) == []
    carry_out(view, manager.on_remote_removed(view, 5))
    assert announce(view, manager, third) == [OpenSubflow(0, b"", third)]


def test_an_address_that_is_in_use_is_not_joined_again() -> None:
    manager, view = Endpoints([], Limits(8, 8)), a_view()
    assert announce(view, manager, RemoteAddress(4, B1, PORT)) == []
    # A port that was announced makes it another address.
    other_port = RemoteAddress(4, B1, 9000)
    assert announce(view, manager, other_port) == [OpenSubflow(0, b"", other_port)]


def test_fullmesh_endpoints_join_announced_addresses_and_those_in_use() -> None:
    mesh = SUBFLOW | FULLMESH
    manager, view = Endpoints(plain(mesh, mesh), Limits(8, 8)), a_view()
    assert carry_out(view, manager.on_established(view)) == [OpenSubflow(2, A2, INITIAL)]
    assert announce(view, manager, FURTHER) == [
        OpenSubflow(0, A1, FURTHER),
        OpenSubflow(2, A2, FURTHER),
    ]
    # A third endpoint, added later, joins every remote address in use.
    commands = manager.add_endpoint(view, Endpoint(3, A3, mesh))
    assert commands == [OpenSubflow(3, A3, INITIAL), OpenSubflow(3, A3, FURTHER)]


def test_laminar_endpoints_serve_one_announced_address_each() -> None:
    manager = Endpoints(plain(SUBFLOW, LAMINAR, LAMINAR), Limits(8, 8))
    view = a_view()
    assert manager.on_established(view) == []
    third, fourth = RemoteAddress(6, B3, PORT), RemoteAddress(7, bytes([10, 9, 9, 9]), PORT)
    assert announce(view, manager, FURTHER) == [OpenSubflow(2, A2, FURTHER)]
    assert announce(view, manager, third) == [OpenSubflow(3, A3, third)]
    assert announce(view, manager, fourth) == []


THIRD = RemoteAddress(6, B3, PORT)


def mesh_of(
    endpoints: list[Endpoint], limits: Limits, announced: list[RemoteAddress]
) -> list[tuple[int, int]]:
    """Return the pairs of ids of all subflows but the first, where the peer's first ADD_ADDR is
    what establishes the connection, as when both ends are Linux."""
    manager, view = Endpoints(endpoints, limits), a_view()
    view.remote_addresses += announced[:1]
    carry_out(view, manager.on_established(view))
    for number, remote in enumerate(announced):
        if number:
            view.remote_addresses.append(remote)
        carry_out(view, manager.on_remote_added(view, remote))
    return sorted((one.local_id, one.remote_id) for one in view.subflows[1:])


@pytest.mark.parametrize(
    ("flags", "limits", "pairs"),
    [
        ([], (8, 8), [(0, 5), (0, 6)]),
        ([], (1, 8), [(0, 5)]),
        ([], (2, 1), [(0, 5)]),
        ([SUBFLOW, SUBFLOW], (8, 8), [(0, 5), (0, 6), (2, 0), (3, 0)]),
        ([SUBFLOW], (1, 8), [(0, 5)]),
        ([SUBFLOW, SUBFLOW], (2, 8), [(0, 5), (0, 6), (2, 0)]),
        ([SUBFLOW, SUBFLOW], (3, 8), [(0, 5), (0, 6), (2, 0), (3, 0)]),
        ([SUBFLOW, SUBFLOW], (4, 1), [(0, 5), (2, 0), (3, 0)]),
        ([SUBFLOW, SUBFLOW], (4, 0), [(2, 0), (3, 0)]),
        ([LAMINAR, LAMINAR], (8, 8), [(2, 5), (3, 6)]),
        ([LAMINAR], (8, 8), [(2, 5)]),
        ([SUBFLOW | LAMINAR, LAMINAR], (8, 8), [(2, 5), (3, 6)]),
        ([SUBFLOW | FULLMESH, LAMINAR], (8, 8), [(2, 0), (2, 5), (2, 6)]),
    ],
)
def test_what_linux_6_18_was_seen_to_open(
    flags: list[EndpointFlag], limits: tuple[int, int], pairs: list[tuple[int, int]]
) -> None:
    """Endpoints on the second and third address, a server that announces two more; and the limits,
    which that kernel exceeds where an address comes before it has opened what they allow."""
    addresses = (A2, A3)
    endpoints = [Endpoint(2 + n, addresses[n], one) for n, one in enumerate(flags)]
    assert mesh_of(endpoints, Limits(*limits), [FURTHER, THIRD]) == pairs


@pytest.mark.parametrize(("limit", "count"), [(8, 8), (4, 5)])
def test_how_far_a_full_mesh_of_linux_6_18_goes(limit: int, count: int) -> None:
    mesh = [Endpoint(n, one, SUBFLOW | FULLMESH) for n, one in enumerate((A1, A2, A3), 1)]
    pairs = mesh_of(mesh, Limits(limit, 8), [FURTHER, THIRD])
    assert len(pairs) == count
    assert {(0, 5), (2, 5), (3, 5), (2, 0), (0, 6)} <= set(pairs)


def test_a_priority_that_is_changed_holds_for_what_is_opened_later() -> None:
    manager, view = Endpoints(plain(SUBFLOW, SUBFLOW), LIMITS), a_view()
    carry_out(view, manager.on_established(view))
    assert not manager.is_backup(A2)
    assert manager.on_priority_changed(view, A2, True) == [SetPriority(1, True)]
    assert manager.is_backup(A2)
    assert not manager.is_backup(A1)
    assert manager.on_priority_changed(view, A2, False) == [SetPriority(1, False)]
    assert not manager.is_backup(A2)


def test_address_families_are_kept_apart() -> None:
    endpoints = [Endpoint(1, A1, SUBFLOW), Endpoint(2, V6, SUBFLOW | FULLMESH)]
    manager, view = Endpoints(endpoints, Limits(8, 8)), a_view()
    assert manager.on_established(view) == []
    remote = RemoteAddress(9, bytes(15) + b"\2", PORT)
    assert announce(view, manager, remote) == [OpenSubflow(2, V6, remote)]


def test_backup_endpoints_join_as_backup_and_demote_the_initial_subflow() -> None:
    manager, view = Endpoints(plain(SUBFLOW | BACKUP, SUBFLOW | BACKUP), Limits()), a_view()
    assert manager.on_established(view) == [
        SetPriority(0, backup=True),
        OpenSubflow(2, A2, INITIAL, backup=True),
    ]


def test_a_peer_that_denies_joins_to_its_initial_address() -> None:
    manager, view = Endpoints(plain(SUBFLOW, SUBFLOW), Limits(2, 0)), a_view()
    view.peer_denies_initial = True
    assert manager.on_established(view) == []
    assert announce(view, manager, FURTHER) == [OpenSubflow(2, A2, FURTHER)]


def test_links_are_invisible() -> None:
    manager, view = Endpoints(plain(SUBFLOW, SUBFLOW), Limits()), a_view()
    carry_out(view, manager.on_established(view))
    second = view.local_addresses[1]
    second.up = False
    assert manager.on_local_down(view, second) == []
    second.up = True
    assert manager.on_local_up(view, second) == []


def test_removing_and_adding_an_endpoint_acts_at_once() -> None:
    manager, view = Endpoints(plain(SUBFLOW, SUBFLOW), Limits()), a_view()
    carry_out(view, manager.on_established(view))
    assert carry_out(view, manager.remove_endpoint(view, 2)) == [RemoveAddress(2), CloseSubflow(1)]
    assert manager.add_endpoint(view, Endpoint(2, A2, SUBFLOW)) == [OpenSubflow(2, A2, INITIAL)]
    assert carry_out(view, manager.remove_endpoint(view, 1)) == [RemoveAddress(0), CloseSubflow(0)]
    with pytest.raises(KeyError):
        manager.remove_endpoint(view, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Endpoint(0, A1, SUBFLOW), "id 0"),
        (lambda: Endpoint(256, A1, SUBFLOW), "id 256"),
        (lambda: Endpoint(1, A1, SIGNAL | FULLMESH), "exclude"),
        (lambda: Endpoint(1, A1, SUBFLOW, 80), "needs the flag signal"),
        (lambda: Endpoint(1, A1, SIGNAL | SUBFLOW, 80), "excludes the flag subflow"),
        (lambda: Limits(subflows=9), "limit subflows"),
        (lambda: Limits(add_addr_accepted=-1), "limit add_addr_accepted"),
        (lambda: Endpoints([Endpoint(1, A1, SUBFLOW)] * 2, Limits()), "given twice"),
        (
            lambda: Endpoints([Endpoint(1, A1, SUBFLOW), Endpoint(2, A1, SIGNAL)], Limits()),
            "one address",
        ),
        (
            lambda: Endpoints(
                [Endpoint(i, bytes([i] * 4), SIGNAL) for i in range(1, 10)], Limits()
            ),
            "at most 8",
        ),
    ],
)
def test_what_ip_mptcp_refuses(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


# The variant that watches links


def link_aware(*flags: EndpointFlag, limits: Limits | None = None) -> LinkAwareEndpoints:
    return LinkAwareEndpoints(plain(*flags), limits or Limits(8, 8))


def test_a_link_that_goes_takes_its_subflows_and_brings_them_back() -> None:
    manager, view = link_aware(SUBFLOW, SUBFLOW), a_view()
    carry_out(view, manager.on_established(view))
    announce(view, manager, FURTHER)
    for index, local_id, address in ((0, 0, A1), (1, 2, A2)):
        local = view.local_addresses[index]
        before = sorted((one.local_id, one.remote_id) for one in view.subflows)
        local.up = False
        commands = carry_out(view, manager.on_local_down(view, local))
        assert RemoveAddress(local_id) in commands
        assert not view.uses_local(address)
        local.up = True
        carry_out(view, manager.on_local_up(view, local))
        assert sorted((one.local_id, one.remote_id) for one in view.subflows) == before


def test_nothing_is_opened_from_a_link_that_is_down() -> None:
    manager, view = link_aware(SUBFLOW, SUBFLOW), a_view()
    view.local_addresses[1].up = False
    assert manager.on_established(view) == []
    view.local_addresses[1].up = True
    assert manager.on_local_up(view, view.local_addresses[1]) == [OpenSubflow(2, A2, INITIAL)]


def test_a_server_announces_a_link_that_returned_again() -> None:
    manager, view = link_aware(SIGNAL, SIGNAL), a_view(client=False)
    assert manager.on_established(view) == [AnnounceAddress(2, A2)]
    joined = add(view, 2, A2, RemoteAddress(3, B3, 40001), ours=False)
    second = view.local_addresses[1]
    second.up = False
    assert carry_out(view, manager.on_local_down(view, second)) == [
        RemoveAddress(2),
        CloseSubflow(joined.subflow_id),
    ]
    second.up = True
    assert manager.on_local_up(view, second) == [AnnounceAddress(2, A2)]


def test_a_subflow_that_failed_on_a_live_link_is_tried_again_within_bounds() -> None:
    manager, view = link_aware(SUBFLOW, SUBFLOW), a_view()
    carry_out(view, manager.on_established(view))
    path = view.subflows.pop()
    waits = []
    for _ in range(20):
        failed_ns = view.now_ns
        manager.on_subflow_closed(view, path, failed=True)
        deadline_ns = manager.deadline_ns()
        if deadline_ns is None:
            break
        view.now_ns = deadline_ns
        assert manager.on_timeout(view) == [OpenSubflow(2, A2, INITIAL)]
        waits.append((deadline_ns - failed_ns) // SECOND)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    manager.on_subflow_established(view, path)
    manager.on_subflow_closed(view, path, failed=True)
    assert manager.deadline_ns() == view.now_ns + SECOND


def test_a_subflow_that_failed_with_its_link_down_waits_for_the_link() -> None:
    manager, view = link_aware(SUBFLOW, SUBFLOW), a_view()
    carry_out(view, manager.on_established(view))
    view.local_addresses[1].up = False
    manager.on_subflow_closed(view, view.subflows.pop(), failed=True)
    assert manager.deadline_ns() is None


def test_limits_bind_what_comes_back() -> None:
    manager, view = link_aware(SUBFLOW, SUBFLOW, SUBFLOW, limits=Limits(1, 0)), a_view()
    carry_out(view, manager.on_established(view))
    second = view.local_addresses[1]
    second.up = False
    carry_out(view, manager.on_local_down(view, second))
    carry_out(view, manager.on_subflow_closed(view, view.subflows[0], failed=False))
    second.up = True
    carry_out(view, manager.on_local_up(view, second))
    assert sum(1 for one in view.subflows if one.joined) == 1


def test_a_removed_remote_address_is_not_tried_again() -> None:
    manager, view = link_aware(SUBFLOW), a_view()
    announce(view, manager, FURTHER)
    manager.on_subflow_closed(view, view.subflows.pop(), failed=True)
    assert manager.on_remote_removed(view, 5) == []
