"""Address signals of one connection, without a stack or its path manager's subflows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.keys import KEY_A, KEY_B
from tests.times import SECOND

from mptcplab.stack.config import StackConfig
from mptcplab.stack.host_view import HostView
from mptcplab.stack.mptcp.paths import ADD_ADDR_RETRANSMISSIONS, UNKNOWN_ID, Paths
from mptcplab.stack.mptcp.session import Session
from mptcplab.stack.path_managers.base import AnnounceAddress, LocalAddress, RemoteAddress
from mptcplab.stack.path_managers.initial_only import InitialOnly
from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.testing import config
from mptcplab.wire.ip import parse_address
from mptcplab.wire.keys import add_addr_hmac
from mptcplab.wire.mptcp import CAPABLE_HMAC, AddAddr, MpCapable, RemoveAddr

LOCAL, REMOTE = bytes((10, 0, 1, 1)), bytes((10, 0, 1, 2))
SECOND_LOCAL, NEW, NEWER = (bytes((10, 0, 2, last)) for last in (1, 2, 3))


class TwoAddresses(HostView):
    """A host with two addresses."""

    def host_addresses(self) -> list[LocalAddress]:
        return [LocalAddress(LOCAL, 1), LocalAddress(SECOND_LOCAL, 2)]

    def source_for(self, remote: bytes) -> bytes:
        return LOCAL

    def mss_for(self, local: bytes) -> int:
        return 1460

    def local_port(self, local: bytes, wanted: int, remote: bytes, remote_port: int) -> int:
        return wanted or 40_000

    def random_bits(self, count: int) -> int:
        return 0


def paths(settings: StackConfig | None = None) -> Paths:
    """The paths of a client, whose connection has no subflow just now."""
    settings = settings or config()
    session = Session(settings, is_client=True)
    session.set_local_key(KEY_A)
    session.take_capable(MpCapable(session.version, CAPABLE_HMAC, KEY_B))
    return Paths(
        TwoAddresses(),
        session,
        InitialOnly(),
        [],
        LOCAL,
        RemoteAddress(0, REMOTE, 80),
        settings.add_addr_timeout_ns,
    )


def announced(address: bytes = NEW, address_id: int = 5, port: int | None = None) -> AddAddr:
    """The peer's ADD_ADDR, with the HMAC that it should have."""
    hmac = add_addr_hmac(KEY_B, KEY_A, address_id, address, port)
    return AddAddr(address_id, address, port, hmac=hmac)


def test_identifiers_of_our_addresses() -> None:
    assert [paths().local_id_of(address) for address in (LOCAL, SECOND_LOCAL, NEW)] == [
        0,
        2,
        UNKNOWN_ID,
    ]


@pytest.mark.parametrize(("port", "connects_to"), [(None, 80), (8080, 8080)])
def test_an_announced_address_is_known_from_then_on(port: int | None, connects_to: int) -> None:
    known = paths()
    option = announced(port=port)
    assert known.take_address(option, None) == RemoteAddress(5, NEW, connects_to)
    assert known.take_address(option, None) is None
    assert known.view(0).remote_addresses[1:] == [RemoteAddress(5, NEW, connects_to)]
    echoes = [option for _, option in known.signals if isinstance(option, AddAddr)]
    assert [echo.echo for echo in echoes] == [True, True]


def test_a_forged_address_is_neither_taken_nor_echoed() -> None:
    known = paths()
    forged = AddAddr(5, NEW, None, hmac=bytes(8))
    assert known.take_address(forged, None) is None
    assert not known.signals


def test_an_identifier_means_another_address_only_after_its_removal() -> None:
    known = paths()
    known.take_address(announced(), None)
    assert known.take_address(announced(NEWER), None) is None
    assert known.take_removal(5)
    assert not known.take_removal(5)
    assert known.take_address(announced(NEWER), None) is not None


def test_add_addr_is_repeated_until_it_is_echoed() -> None:
    settings = replace(config(), add_addr_timeout_ns=10 * SECOND)
    ours = paths(settings)
    ours.announce(AnnounceAddress(2, SECOND_LOCAL), [], 0)
    ours.settle_due()
    times = []
    while ours.next_deadline_ns() != NEVER_NS:
        times.append(ours.next_deadline_ns() // SECOND)
        ours.repeat_announcements(ours.next_deadline_ns())
    assert times == [10, 30, 70]  # 10, 20 and 40 s apart
    assert len(ours.signals) == 1 + ADD_ADDR_RETRANSMISSIONS
    ours.announce(AnnounceAddress(2, SECOND_LOCAL), [], 0)
    ours.take_echo(AddAddr(2, SECOND_LOCAL, None, echo=True))
    assert ours.next_deadline_ns() == NEVER_NS


def test_addresses_that_go_together_share_one_remove_addr() -> None:
    ours = paths()
    ours.remove(1, [])
    ours.remove(2, [])
    assert [option for _, option in ours.signals] == [RemoveAddr((1, 2))]


def test_an_address_that_is_there_again_is_not_said_to_be_gone() -> None:
    ours = paths()
    ours.remove(1, [])
    ours.remove(2, [])
    ours.keep(2)
    assert [option for _, option in ours.signals] == [RemoveAddr((1,))]
    ours.keep(1)
    assert not ours.signals


NO_PEER = ("224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0", "::", "::1", "ff02::1")
IPV4_MAPPED = "::ffff:192.0.2.1"
OURS = ("10.0.1.1", "10.0.2.1")


@pytest.mark.parametrize("address", [*NO_PEER, IPV4_MAPPED, *OURS])
@pytest.mark.parametrize("port", [None, 8080])
def test_what_no_peer_can_have_is_echoed_and_not_used(address: str, port: int | None) -> None:
    known = paths()
    assert known.take_address(announced(parse_address(address), port=port), None) is None
    assert not known.remotes
    assert [option.echo for _, option in known.signals if isinstance(option, AddAddr)] == [True]
