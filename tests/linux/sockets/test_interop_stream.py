"""Our stack and the kernel's on one path: both roles, both families, checksum, fallback, boxes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from tests.linux.sockets.boxed_devices import box

from mptcplab.middleboxes import Middlebox
from mptcplab.wire.mptcp import MpFail

if TYPE_CHECKING:
    from tests.linux.sockets.conftest import Lab

pytestmark = [pytest.mark.kernel, pytest.mark.program("ip", "tc", "nsenter")]

ROLES = pytest.mark.parametrize("as_client", [True, False], ids=["client", "server"])
SIZE = 2_000_000
AFTER_SYN = ("ACK", "data", "FIN", "RST")


@ROLES
@pytest.mark.parametrize("address", ["10.1.0.X", "fd00:1::X"], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("checksum", [False, True], ids=["plain", "checksum"])
def test_bulk_both_ways(lab: Lab, as_client: bool, address: str, checksum: bool) -> None:
    pair = lab.interop(checksum=checksum)
    ours, theirs = pair.join(as_client, address)
    assert ours.state.mptcp
    assert lab.info(theirs)["fallback"] == 0
    assert lab.info(theirs)["csum_enabled"] == checksum
    pair.exchange((ours, theirs), lab.bulk_bytes)
    theirs.close()
    ours.wait_for(lambda state: state.closed_for is not None or state.delivered)
    assert not pair.kernel.unprovoked()


@pytest.mark.slow
@ROLES
def test_200_megabytes_each_way(lab: Lab, as_client: bool) -> None:
    size = 200_000_000
    pair = lab.interop(checksum=not as_client)
    ends = pair.join(as_client)
    pair.exchange(ends, size)
    assert pair.counts[0].payload_bytes[True] >= size
    assert pair.counts[0].payload_bytes[False] >= size
    assert lab.info(ends[1])["fallback"] == 0
    assert not pair.kernel.unprovoked()


@ROLES
def test_the_checksum_that_only_the_kernel_asks_for(lab: Lab, as_client: bool) -> None:
    pair = lab.interop()
    pair.kernel.sysctl("net.mptcp.checksum_enabled", 1)
    ours, theirs = pair.join(as_client)
    pair.exchange((ours, theirs), SIZE)
    assert lab.info(theirs)["csum_enabled"] == 1
    assert not pair.kernel.unprovoked()


@ROLES
def test_small_messages_to_and_fro(lab: Lab, as_client: bool) -> None:
    pair = lab.interop()
    ours, theirs = pair.join(as_client)
    for round_number in range(50):
        question = lab.pattern(1 + 37 * round_number, round_number)
        if as_client:
            ours.send(question)
            assert theirs.recv(10_000) == question
            theirs.sendall(question[::-1])
            assert ours.recv() == question[::-1]
        else:
            theirs.sendall(question)
            assert ours.recv() == question
            ours.send(question[::-1])
            assert theirs.recv(10_000) == question[::-1]
    assert not pair.kernel.unprovoked()


@ROLES
def test_a_peer_without_mptcp_means_plain_tcp(lab: Lab, as_client: bool) -> None:
    pair = lab.interop()
    ours, theirs = pair.join(as_client, mptcp=False)
    pair.exchange((ours, theirs), SIZE)
    assert not ours.state.mptcp
    assert not pair.kernel.unprovoked("MPCapableFallbackSYNACK")


@ROLES
def test_version_0_and_the_kernel_agree_on_plain_tcp(lab: Lab, as_client: bool) -> None:
    pair = lab.interop(version=0)
    ours, theirs = pair.join(as_client)
    pair.exchange((ours, theirs), SIZE)
    assert not ours.state.mptcp
    assert not pair.kernel.unprovoked("MPCapableFallbackSYNACK")


BOXES: list[tuple[str, Callable[[], list[Middlebox]]]] = [
    ("split", lambda: [box("split", size_bytes=700)]),
    ("merge", lambda: [box("merge", size_bytes=20_000), box("split", size_bytes=1000)]),
    ("sequence", lambda: [box("randomise-sequence", direction="forward")]),
]
NAT: tuple[str, Callable[[], list[Middlebox]]] = (
    "nat",
    lambda: [box("nat", outside=IPv4Address("10.1.0.77"))],
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_box", "as_client"),
    [
        pytest.param(make, as_client, id=f"{name}-{'client' if as_client else 'server'}")
        for as_client in (True, False)
        for name, make in ([*BOXES, NAT] if as_client else BOXES)  # none connects to behind a NAT
    ],
)
def test_boxes_that_mptcp_survives(
    lab: Lab, as_client: bool, make_box: Callable[[], list[Middlebox]]
) -> None:
    pair = lab.interop(1, make_box())
    ours, theirs = pair.join(as_client)
    pair.exchange((ours, theirs), SIZE)
    assert ours.state.mptcp
    assert lab.info(theirs)["fallback"] == 0
    assert not pair.kernel.unprovoked()


@ROLES
@pytest.mark.parametrize("direction", ["syn", "synack", "ack"])
def test_a_stripped_mp_capable_means_plain_tcp(lab: Lab, as_client: bool, direction: str) -> None:
    from_client = direction != "synack"
    outbound = from_client is as_client
    strip = box(
        "strip",
        options=("MP_CAPABLE",),
        segments=("ACK", "data") if direction == "ack" else ("SYN", "SYN/ACK"),
        direction="forward" if outbound else "backward",
    )
    pair = lab.interop(1, [strip])
    ours, theirs = pair.join(as_client)
    if as_client:
        pair.upload((ours, theirs), SIZE)
        pair.download((ours, theirs), SIZE)
    else:
        pair.download((ours, theirs), SIZE)
        pair.upload((ours, theirs), SIZE)
    assert not ours.state.mptcp
    assert lab.info(theirs)["fallback"] == 1


@ROLES
def test_stripped_mappings_mean_plain_tcp(lab: Lab, as_client: bool) -> None:
    pair = lab.interop(1, [box("strip", options=("DSS", "MP_CAPABLE"), segments=AFTER_SYN)])
    ours, theirs = pair.join(as_client)
    pair.upload((ours, theirs), SIZE)
    pair.download((ours, theirs), SIZE)
    assert not ours.state.mptcp
    assert lab.info(theirs)["fallback"] == 1


@ROLES
def test_mappings_stripped_in_mid_connection_never_corrupt(lab: Lab, as_client: bool) -> None:
    pair = lab.interop(1, [box("strip", options=("DSS",), after_bytes=500_000)])
    ours, theirs = pair.join(as_client)
    data = lab.pattern(SIZE, 3)
    theirs.settimeout(3)
    ours.timeout = 3
    sending = lab.worker(lambda: ours.send(data))
    received = bytearray()
    with suppress(OSError):
        while len(received) < SIZE and (chunk := theirs.recv(1 << 18)):
            received += chunk
    assert len(received) >= 400_000
    assert data.startswith(bytes(received))
    with suppress(OSError):
        sending.result(10)


@ROLES
def test_our_rewritten_payload_fails_the_kernels_checksum(lab: Lab, as_client: bool) -> None:
    rewrite = box("rewrite", direction="forward", after_bytes=200_000, times=1)
    pair = lab.interop(1, [rewrite], checksum=True)
    ours, theirs = pair.join(as_client)
    theirs.settimeout(10)
    data = lab.pattern(SIZE, 4)
    sending = lab.worker(lambda: ours.send(data))
    received = bytearray()
    while len(received) < SIZE and (chunk := theirs.recv(1 << 18)):
        received += chunk
    sending.result()
    differing = sum(a != b for a, b in zip(received, data, strict=True))
    assert differing == 1, "a single subflow goes on as TCP, with what the box made of it"
    assert pair.counts[0].saw(MpFail, False)
    assert ours.state.fallback
    assert pair.kernel.counters()["DataCsumErr"] == 1


@ROLES
def test_the_kernels_rewritten_payload_fails_our_checksum(lab: Lab, as_client: bool) -> None:
    rewrite = box("rewrite", direction="backward", after_bytes=200_000, times=1)
    pair = lab.interop(1, [rewrite], checksum=True)
    ours, theirs = pair.join(as_client)
    lab.worker(lambda: theirs.sendall(lab.pattern(SIZE, 5)))
    lab.worker(lambda: [ours.recv() for _ in range(SIZE)])
    ours.wait_for(lambda state: any(event.kind == "checksum-failed" for event in state.log))
    lab.eventually(lambda: "MPFailRx" in pair.kernel.counters(), "MP_FAIL")
