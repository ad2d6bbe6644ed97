"""Our stack and the kernel's on several paths: joins, address signalling, death and return."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
from tests.linux.sockets.boxed_devices import box

from mptcplab.linux.sockets.stream import StreamState
from mptcplab.middleboxes import Middlebox
from mptcplab.stack.path_managers import (
    Endpoint,
    EndpointFlag,
    Endpoints,
    FullMesh,
    Limits,
    NdiffPorts,
    PathManager,
)
from mptcplab.stack.schedulers import SCHEDULERS
from mptcplab.stack.testing import usable_paths
from mptcplab.wire.ip import parse_address
from mptcplab.wire.mptcp import (
    AddAddr,
    MpFail,
    MpFastclose,
    MpJoinSyn,
    MpPrio,
    RemoveAddr,
)
from mptcplab.wire.segment import MAX_TRAIN_BYTES

if TYPE_CHECKING:
    from tests.linux.sockets.conftest import Ends, Interop, Lab

pytestmark = [pytest.mark.kernel, pytest.mark.program("ip", "tc", "nsenter")]

ROLES = pytest.mark.parametrize("as_client", [True, False], ids=["client", "server"])
DIRECTIONS = pytest.mark.parametrize("upload", [True, False], ids=["upload", "download"])
SIZE = 4_000_000
SECOND = parse_address("10.2.0.2")


def open_limits(pair: Interop) -> None:
    pair.kernel.ip("mptcp", "limits", "set", "subflows", "8", "add_addr_accepted", "8")


def from_second() -> PathManager:
    """One more subflow, from our address on link 2."""
    return Endpoints([Endpoint(3, SECOND, EndpointFlag.SUBFLOW)], Limits(8, 8))


def announce_second() -> PathManager:
    """Announce our address on link 2."""
    return Endpoints([Endpoint(3, SECOND, EndpointFlag.SIGNAL)], Limits(8, 8))


def follow() -> PathManager:
    """Nothing of our own; use what the peer announces, take what it opens."""
    return Endpoints([], Limits(8, 8))


def on_both(lab: Lab, *boxes: list[Middlebox], checksum: bool = False) -> Interop:
    """A second subflow on the second link, and both links in use both ways."""
    pair = lab.interop(
        2,
        *boxes,
        path_manager=from_second,
        scheduler=SCHEDULERS["round-robin"],
        checksum=checksum,
    )
    pair.limit_rates(300)
    return pair


def settle(pair: Interop, ends: Ends, subflows: int) -> None:
    """Exchange a little, which a join presupposes, and wait for the subflows."""
    pair.exchange(ends, 10_000, finish=False)
    ends[0].wait_for(lambda state: len(usable_paths(state.connection)) >= subflows)


def transfer(pair: Interop, ends: Ends, size: int, upload: bool) -> None:
    (pair.upload if upload else pair.download)(ends, size)


@DIRECTIONS
@pytest.mark.parametrize("checksum", [False, True], ids=["plain", "checksum"])
def test_we_join_over_a_second_link(lab: Lab, upload: bool, checksum: bool) -> None:
    pair = on_both(lab, checksum=checksum)
    open_limits(pair)
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 2)
    transfer(pair, (ours, theirs), lab.bulk_bytes, upload)
    for count in pair.counts:
        assert count.payload_bytes[upload] > lab.bulk_bytes // 20
    assert lab.info(theirs)["subflows"] == 1
    assert not pair.kernel.unprovoked()


@DIRECTIONS
def test_the_kernel_joins_from_a_second_address(lab: Lab, upload: bool) -> None:
    pair = lab.interop(2, path_manager=follow)
    open_limits(pair)
    pair.kernel.ip("mptcp", "endpoint", "add", "10.2.0.1", "id", "9", "subflow")
    ours, theirs = pair.accept()
    settle(pair, (ours, theirs), 2)
    transfer(pair, (ours, theirs), lab.bulk_bytes, upload)
    assert not pair.kernel.unprovoked()


def test_four_subflows_between_two_addresses(lab: Lab) -> None:
    pair = lab.interop(path_manager=lambda: NdiffPorts(4))
    open_limits(pair)
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 4)
    pair.exchange((ours, theirs), SIZE)
    assert not pair.kernel.unprovoked()


@ROLES
def test_our_announcement_is_used_and_echoed(lab: Lab, as_client: bool) -> None:
    pair = lab.interop(2, path_manager=announce_second)
    open_limits(pair)
    ours, theirs = pair.join(as_client)
    pair.exchange((ours, theirs), 10_000, finish=False)
    lab.eventually(lambda: "AddAddr" in pair.kernel.counters(), "our ADD_ADDR")
    if not as_client:
        ours.wait_for(lambda state: len(usable_paths(state.connection)) == 2)
    lab.eventually(
        lambda: any(
            isinstance(option, AddAddr) and option.echo and not way
            for count in pair.counts
            for way, option in count.options
        ),
        "the echo",
    )
    pair.exchange((ours, theirs), SIZE)
    assert pair.kernel.counters()["AddAddr"] == 1, "echoed, so not sent again"
    assert not pair.kernel.unprovoked()


def test_the_kernels_announcement_is_used_and_echoed(lab: Lab) -> None:
    pair = lab.interop(2, path_manager=follow)
    open_limits(pair)
    pair.kernel.ip("mptcp", "endpoint", "add", "10.2.0.1", "id", "9", "signal")
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 2)
    lab.eventually(lambda: "EchoAdd" in pair.kernel.counters(), "our echo")
    pair.exchange((ours, theirs), SIZE)
    assert not pair.kernel.unprovoked()


@ROLES
def test_ipv4_and_ipv6_in_one_connection(lab: Lab, as_client: bool) -> None:
    pair = lab.interop(2, path_manager=FullMesh)
    open_limits(pair)
    if as_client:
        pair.kernel.ip("mptcp", "endpoint", "add", "fd00:2::1", "id", "9", "signal")
    ours, theirs = pair.join(as_client)
    pair.exchange((ours, theirs), 10_000, finish=False)

    def has_both(state: StreamState) -> bool:
        return {len(path.local_address) for path in usable_paths(state.connection)} == {4, 16}

    ours.wait_for(has_both)
    pair.exchange((ours, theirs), SIZE)
    # The kernel takes one announcement at a time, and may try ours from a socket of one family.
    assert not pair.kernel.unprovoked("AddAddrDrop", "MPJoinSynTxCreatSkErr")


def test_the_kernel_withdraws_an_address(lab: Lab) -> None:
    pair = lab.interop(2, path_manager=follow)
    open_limits(pair)
    pair.kernel.ip("mptcp", "endpoint", "add", "10.2.0.1", "id", "9", "signal")
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 2)
    pair.kernel.ip("mptcp", "endpoint", "del", "id", "9")
    ours.wait_for(lambda state: any(event.kind == "address-removed" for event in state.log))
    ours.wait_for(lambda state: len(usable_paths(state.connection)) == 1)
    pair.exchange((ours, theirs), SIZE)
    assert not pair.kernel.unprovoked("MPRstRx")


def test_we_withdraw_an_address_whose_link_went_down(lab: Lab) -> None:
    pair = lab.interop(2, path_manager=FullMesh)
    open_limits(pair)
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 2)
    pair.host.set_link_up(pair.links[1], False)
    lab.eventually(lambda: "RmAddr" in pair.kernel.counters(), "our REMOVE_ADDR")
    with pair.host.lock:
        local = {path.local_address for path in usable_paths(ours.connection)}
        assert local <= set(pair.links[0].addresses)
    # The kernel may itself have joined our other addresses on the first link.
    lab.eventually(
        lambda: lab.info(theirs)["subflows"] == pair.subflows(ours) - 1, "the end of the subflow"
    )
    before = pair.counts[1].payload_bytes[False]
    pair.exchange((ours, theirs), SIZE, finish=False)
    assert pair.counts[1].payload_bytes[False] == before
    pair.host.set_link_up(pair.links[1], True)
    ours.wait_for(lambda state: len(usable_paths(state.connection)) >= 2)
    pair.exchange((ours, theirs), SIZE)
    assert pair.counts[0].saw(RemoveAddr, True)
    assert not pair.kernel.unprovoked(
        "MPRstRx", "MPRstTx", "AddAddrDrop", "RmAddrDrop", "SubflowStale", "SubflowRecover"
    )


def test_we_make_a_subflow_backup(lab: Lab) -> None:
    pair = lab.interop(2, path_manager=from_second)
    open_limits(pair)
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 2)
    ours.set_backup(1, True)
    lab.eventually(lambda: "MPPrioRx" in pair.kernel.counters(), "our MP_PRIO")
    before = pair.counts[1].payload_bytes[False]
    pair.download((ours, theirs), SIZE)
    assert pair.counts[1].payload_bytes[False] - before < SIZE // 20
    assert not pair.kernel.unprovoked()


def test_the_kernel_makes_a_subflow_backup(lab: Lab) -> None:
    pair = lab.interop(2, path_manager=follow)
    open_limits(pair)
    pair.kernel.ip("mptcp", "endpoint", "add", "10.2.0.1", "id", "9", "subflow")
    ours, theirs = pair.accept()
    settle(pair, (ours, theirs), 2)
    pair.kernel.ip("mptcp", "endpoint", "change", "id", "9", "backup")
    ours.wait_for(lambda state: any(event.kind == "subflow-priority" for event in state.log))
    assert any(count.saw(MpPrio, False) for count in pair.counts)
    with pair.host.lock:
        (joined,) = [path for path in usable_paths(ours.connection) if path.subflow_id != 0]
        assert joined.backup
    pair.exchange((ours, theirs), SIZE)
    assert not pair.kernel.unprovoked()


@ROLES
def test_we_abort(lab: Lab, as_client: bool) -> None:
    pair = lab.interop(2, path_manager=from_second)
    open_limits(pair)
    ours, theirs = pair.join(as_client)
    settle(pair, (ours, theirs), 2 if as_client else 1)  # no join may be under way
    ours.abort()
    with pytest.raises(ConnectionResetError):
        theirs.recv(1)
    assert pair.kernel.counters()["MPFastcloseRx"] >= 1
    assert any(count.saw(MpFastclose, True) for count in pair.counts)
    assert not pair.kernel.unprovoked("MPFastcloseRx", "MPRstRx", "MPRstTx", "MPFastcloseTx")


@ROLES
def test_the_kernel_aborts(lab: Lab, as_client: bool) -> None:
    pair = lab.interop(2, path_manager=from_second)
    open_limits(pair)
    ours, theirs = pair.join(as_client)
    settle(pair, (ours, theirs), 2 if as_client else 1)  # no join may be under way
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    with pytest.raises(ConnectionResetError):
        ours.recv()
    assert pair.kernel.counters()["MPFastcloseTx"] >= 1
    assert not pair.kernel.unprovoked("MPFastcloseTx", "MPRstTx", "MPRstRx")


@DIRECTIONS
@pytest.mark.parametrize("dying", [0, 1], ids=["initial", "joined"])
def test_a_link_cut_in_mid_transfer(lab: Lab, upload: bool, dying: int) -> None:
    pair = on_both(lab)
    open_limits(pair)
    pair.kernel.sysctl("net.mptcp.stale_loss_cnt", 1)
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 2)
    counts = pair.counts[dying].payload_bytes
    moving = lab.worker(lambda: transfer(pair, (ours, theirs), 6 * SIZE, upload))
    lab.eventually(lambda: counts[upload] > SIZE // 4, "traffic on the link")
    pair.gates[dying].closed = True
    moving.result(60)
    assert pair.gates[dying].dropped > 0
    assert not pair.kernel.unprovoked("SubflowStale", "SubflowRecover")


@DIRECTIONS
def test_all_subflows_die_and_new_ones_join(lab: Lab, upload: bool) -> None:
    pair = lab.interop(2, path_manager=FullMesh)
    open_limits(pair)
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 2)
    moving = lab.worker(lambda: transfer(pair, (ours, theirs), 3 * SIZE, upload))
    lab.eventually(  # on whichever link: the scheduler may prefer one of them
        lambda: sum(count.payload_bytes[upload] for count in pair.counts) > SIZE // 8, "traffic"
    )
    for link in pair.links:
        pair.host.set_link_up(link, False)
    with pair.host.lock:
        assert not usable_paths(ours.connection)
    lab.eventually(lambda: lab.info(theirs)["fallback"] == 0, "the connection without subflows")
    for link in pair.links:
        pair.host.set_link_up(link, True)
    moving.result(60)
    assert sum(isinstance(o, MpJoinSyn) for c in pair.counts for _, o in c.options) >= 2
    assert not pair.kernel.unprovoked(
        "MPRstRx",
        "MPRstTx",
        "SubflowStale",
        "SubflowRecover",
        "AddAddrDrop",
        "RmAddrDrop",
        "MPJoinSynTxCreatSkErr",
    )


def test_the_kernel_loses_all_subflows_and_joins_again(lab: Lab) -> None:
    pair = lab.interop(2, path_manager=follow)
    open_limits(pair)
    ours, theirs = pair.accept()
    pair.exchange((ours, theirs), 10_000, finish=False)
    pair.kernel.ip("mptcp", "endpoint", "del", "id", "0", "10.1.0.1")
    ours.wait_for(lambda state: not usable_paths(state.connection))
    assert ours.state.closed_for is None
    pair.kernel.ip("mptcp", "endpoint", "add", "10.2.0.1", "id", "9", "subflow")
    ours.wait_for(lambda state: len(usable_paths(state.connection)) == 1)
    pair.exchange((ours, theirs), SIZE)
    assert not pair.kernel.unprovoked("MPRstTx", "MPRstRx")


@ROLES
def test_a_stripped_mp_join_costs_only_the_subflow(lab: Lab, as_client: bool) -> None:
    manager = from_second if as_client else follow
    strip = [box("strip", options=("MP_JOIN",))]
    boxes = ([], strip) if as_client else (strip,)
    pair = lab.interop(2, *boxes, path_manager=manager)
    open_limits(pair)
    if not as_client:
        pair.kernel.ip("mptcp", "endpoint", "add", "10.2.0.1", "id", "9", "subflow")
    ours, theirs = pair.join(as_client)
    pair.exchange((ours, theirs), SIZE)
    with pair.host.lock:
        assert ours.state.mptcp
        assert {path.subflow_id for path in usable_paths(ours.connection)} <= {0}
    assert lab.info(theirs)["fallback"] == 0


@DIRECTIONS
def test_a_payload_rewritten_on_one_of_two_subflows_is_sent_again(lab: Lab, upload: bool) -> None:
    way = "forward" if upload else "backward"
    rewrite = box("rewrite", direction=way, after_bytes=300_000, times=1)
    pair = on_both(lab, [], [rewrite], checksum=True)
    open_limits(pair)
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 2)
    transfer(pair, (ours, theirs), 3 * SIZE, upload)
    assert rewrite.tallies[upload].changed == 1, "the box found nothing to rewrite"
    lab.eventually(lambda: pair.counts[1].saw(MpFail, not upload), "MP_FAIL")
    assert ours.state.mptcp
    assert lab.info(theirs)["fallback"] == 0
    assert not pair.kernel.unprovoked(
        "DataCsumErr", "MPFailTx", "MPFailRx", "MPRstTx", "MPRstRx", "DSSCorruptionReset"
    )


@DIRECTIONS
def test_mappings_stripped_on_one_of_two_subflows(lab: Lab, upload: bool) -> None:
    strip = box("strip", options=("DSS",), after_bytes=1_000_000)
    pair = on_both(lab, [], [strip])
    open_limits(pair)
    pair.kernel.sysctl("net.mptcp.stale_loss_cnt", 1)
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 2)
    transfer(pair, (ours, theirs), SIZE, upload)
    assert ours.state.mptcp
    assert lab.info(theirs)["fallback"] == 0


def test_blind_merging_on_one_of_two_subflows(lab: Lab) -> None:
    merge = box("merge", size_bytes=MAX_TRAIN_BYTES, blind=True)
    pair = on_both(lab, [], [box("split", size_bytes=1000), merge])
    open_limits(pair)
    ours, theirs = pair.connect()
    settle(pair, (ours, theirs), 2)
    pair.exchange((ours, theirs), SIZE)
    assert lab.info(theirs)["fallback"] == 0
