"""TCP Fast Open of our stack and the kernel's: a cookie is got, then used, in both roles."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from mptcplab.middleboxes import Middlebox
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.wire.fast_open import find_cookie
from mptcplab.wire.segment import ACK, SYN, Segment

if TYPE_CHECKING:
    from tests.linux.sockets.conftest import Ends, Interop, Lab

pytestmark = [pytest.mark.kernel, pytest.mark.program("ip", "tc", "nsenter")]

TCP_FASTOPEN_CONNECT: Final = 30  # include/uapi/linux/tcp.h: connect() waits for the first write
BOTH_ROLES: Final = 3  # TFO_CLIENT_ENABLE and TFO_SERVER_ENABLE (include/net/tcp.h)
WAITING: Final = 8  # connections that a listener holds before their handshake is over
ROUNDS: Final = 3
SIZE: Final = 200_000


class Syns(Middlebox):
    """Remembers SYNs and SYN/ACKs that pass: cookie, size of data, acknowledged data."""

    def __init__(self) -> None:
        super().__init__(MiddleboxPlan("count"))
        self.seen: list[tuple[bytes | None, int]] = []
        self._seq = 0

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:
        if segment.flags & SYN:
            answers = bool(segment.ack)
            size = (segment.ack - self._seq - 1) & 0xFFFF_FFFF if answers else segment.payload_bytes
            self._seq = segment.seq
            self.seen.append((find_cookie(segment), size))
        return [segment]

    def take(self) -> list[tuple[bytes | None, int]]:
        """Return what passed since the last time: of a SYN, and of its answer."""
        seen, self.seen = self.seen, []
        return seen


class LoseOnce(Middlebox):
    """Loses the first segment that is of a kind, once it is told to."""

    def __init__(self) -> None:
        super().__init__(MiddleboxPlan("count"))
        self.kind = ""

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:
        kinds = {SYN: "SYN", SYN | ACK: "SYN/ACK", ACK: "third"}
        kind = kinds.get(segment.flags & (SYN | ACK), "")
        if kind == "third" and segment.payload_bytes:
            kind = ""
        if kind and kind == self.kind:
            self.kind = ""
            return []
        return [segment]


def fast_pair(lab: Lab, mptcp: bool, *boxes: Middlebox) -> tuple[Interop, Syns]:
    syns = Syns()
    pair = lab.interop(1, [syns, *boxes], fast_open=True, mptcp=mptcp)
    pair.kernel.sysctl("net.ipv4.tcp_fastopen", BOTH_ROLES)
    return pair, syns


class Asking:
    """Connections of one pair, one after the other, each with a first request."""

    def __init__(self, lab: Lab, as_client: bool, mptcp: bool, family: str = "ipv4") -> None:
        self.loss = LoseOnce()
        self.pair, self.syns = fast_pair(lab, mptcp, self.loss)
        self._lab, self._as_client, self._mptcp = lab, as_client, mptcp
        ipv6 = family == "ipv6"
        self._address = ("fd00:1::" if ipv6 else "10.1.0.") + ("1" if as_client else "2")
        self._family = socket.AF_INET6 if ipv6 else socket.AF_INET
        lab.eventually(
            lambda: "tentative" not in self.pair.kernel.ip("-6", "address"), "IPv6 addresses"
        )
        self.ours_listens = None if as_client else self.pair.host.listen(5001)
        self.listener = self.pair.kernel.listener("::" if ipv6 else "0.0.0.0", mptcp=mptcp)
        lab.closing(self.listener)
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, WAITING)

    def ask(self, question: bytes) -> Ends:
        """Open a connection with a request, which the other end has when this returns."""
        pair = self.pair
        self.syns.take()
        if self.ours_listens is None:
            ours = pair.host.connect(self._address, 5001, data=question)
            theirs, _ = self.listener.accept()
            self._lab.closing(theirs)
            theirs.settimeout(10)
            got = bytearray()
            while len(got) < len(question):
                got += theirs.recv(100_000)
        else:
            theirs = pair.kernel.socket(self._family, self._mptcp)
            self._lab.closing(theirs)
            theirs.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
            theirs.connect((self._address, 5001))
            theirs.sendall(question)
            ours = self.ours_listens.accept()
            got = bytearray()
            while len(got) < len(question):
                got += ours.recv()
        assert bytes(got) == question
        return ours, theirs

    def judge_repeated(self, ends: Ends, repeats: bool) -> None:
        """Look whether MPTCP is still spoken: the kernel's client maps no data of a SYN again."""
        falls_back = self._mptcp and repeats and not self._as_client
        assert ends[0].state.mptcp is (self._mptcp and not falls_back)
        if self._mptcp:
            assert self._lab.info(ends[1])["fallback"] == falls_back
        assert not self.pair.kernel.unprovoked(*["MPCapableDataFallback"] * falls_back)

    def finish(self, ends: Ends) -> None:
        """Move data both ways, and close."""
        self.pair.exchange(ends, SIZE)
        ends[1].close()

    def counters(self) -> dict[str, int]:
        """The kernel's counters of Fast Open that are not zero."""
        with self.pair.kernel.net.entered():
            lines = Path("/proc/thread-self/net/netstat").read_text().splitlines()
        names, values = lines[0].split(), lines[1].split()  # of TcpExt
        return {
            name: int(value)
            for name, value in zip(names, values, strict=True)
            if name.startswith("TCPFastOpen") and int(value)
        }


protocols = pytest.mark.parametrize("mptcp", [False, True], ids=["tcp", "mptcp"])
roles = pytest.mark.parametrize("as_client", [True, False], ids=["client", "server"])


@roles
@protocols
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_cookie_is_got_then_used(lab: Lab, as_client: bool, mptcp: bool, family: str) -> None:
    asking = Asking(lab, as_client, mptcp, family)
    granted = b""
    for number in range(ROUNDS):
        question = lab.pattern(200 + number, number)
        ends = asking.ask(question)
        asked, answer = asking.syns.take()
        if number == 0:
            assert asked == (b"", 0)
            granted = answer[0] or b""
            assert granted
        else:
            assert asked == (granted, len(question))
            assert answer == (None, len(question))
        asking.finish(ends)
    used = "TCPFastOpenPassive" if as_client else "TCPFastOpenActive"
    assert asking.counters()[used] == ROUNDS - 1
    assert not asking.pair.kernel.unprovoked()


@roles
@protocols
def test_what_the_syn_has_no_room_for_follows(lab: Lab, as_client: bool, mptcp: bool) -> None:
    asking = Asking(lab, as_client, mptcp)
    asking.finish(asking.ask(b"first"))
    question = lab.pattern(20_000)
    ends = asking.ask(question)
    asked, answer = asking.syns.take()
    assert 1000 < asked[1] < 1460
    assert answer[1] == asked[1]
    asking.finish(ends)
    assert not asking.pair.kernel.unprovoked()


@roles
@protocols
def test_a_cookie_that_is_no_longer_right(lab: Lab, as_client: bool, mptcp: bool) -> None:
    asking = Asking(lab, as_client, mptcp)
    asking.finish(asking.ask(b"first"))
    if as_client:
        asking.pair.kernel.sysctl("net.ipv4.tcp_fastopen_key", "1-2-3-4")
    else:
        asking.pair.host.driver.stack.fast_open().forget_secret()
    question = lab.pattern(300)
    ends = asking.ask(question)
    asking.judge_repeated(ends, repeats=True)
    asking.finish(ends)
    (cookie, sent), (granted, acked) = asking.syns.take()
    assert (sent, acked) == (300, 0)
    assert granted not in (None, b"", cookie)
    asking.finish(asking.ask(question))
    assert asking.syns.take() == [(granted, 300), (None, 300)]


@pytest.mark.slow
@roles
@pytest.mark.parametrize("lost", ["SYN", "SYN/ACK", "third"])
def test_a_loss_in_the_handshake(lab: Lab, as_client: bool, lost: str) -> None:
    """Where the third packet is lost our server waits for it, or the kernel would fall back."""
    asking = Asking(lab, as_client, mptcp=True)
    asking.finish(asking.ask(b"first"))
    asking.loss.kind = lost
    ends = asking.ask(lab.pattern(300))
    asking.judge_repeated(ends, repeats=lost == "SYN")
    asking.finish(ends)
    assert not asking.loss.kind
