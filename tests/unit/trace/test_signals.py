"""Every signal, right and wrong, in conversations put together by our own codecs."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from tests.keys import KEY_A, KEY_B, NONCE_A, NONCE_B
from tests.unit.trace.tshark_rows import check_against, fields_of

from mptcplab import trace
from mptcplab.trace.findings.events import (
    ADDRESS,
    CLOSED,
    FALLBACK,
    REFUSED,
    START,
    SUBFLOW_CLOSED,
    WRONG_KEY,
)
from mptcplab.trace.output.explain import explanation
from mptcplab.trace.packets import packet_lines
from mptcplab.wire.keys import add_addr_hmac, join_hmac, token_and_idsn
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)

CLIENT, SERVER = "10.0.0.1", "192.0.2.1"
SECOND: Final = "10.0.1.1"
KEYS = (KEY_A, KEY_B)
SAME_TOKEN = (50799, 58968)  # two keys, found by trying, whose tokens are the same
NONCES = (NONCE_A, NONCE_B)


class Talk:
    """A conversation of client and server on any number of subflows."""

    def __init__(self, build: ModuleType, version: int = 1) -> None:
        self.build, self.version = build, version
        self.packets: list[bytes] = []
        self._next: dict[tuple[str, str, int], list[int]] = {}

    def say(
        self, side: int, *options: MptcpOption, flags: int = 0x10, payload: bytes = b"",
        source: str = CLIENT, target: str = SERVER, port: int = 1024,
    ) -> None:  # fmt: skip
        """One segment from the client (side 0) or the server (1) on the subflow of a source."""
        build = self.build
        numbers = self._next.setdefault((source, target, port), [100, 500])
        ports, ends = (
            ((port, 80), (source, target)) if side == 0 else ((80, port), (target, source))
        )
        text = b"".join(option.encode() for option in options)
        segment = build.tcp(*ports, numbers[side], numbers[side ^ 1], flags, text, payload)
        self.packets.append(build.ethernet(build.ipv4(*ends, segment)))
        numbers[side] += len(payload) + (1 if flags & 0x03 else 0)

    def open(self, keys: tuple[int, int] = KEYS, **where: Any) -> None:
        """The three packets with MP_CAPABLE."""
        first = keys[0] if self.version == 0 else None
        self.say(0, MpCapable(self.version, 1, first), flags=0x02, **where)
        self.say(1, MpCapable(self.version, 1, keys[1]), flags=0x12, **where)
        self.say(0, MpCapable(self.version, 1, *keys), **where)

    def join(
        self, keys: tuple[int, int] = KEYS, wrong: int | None = None, token: int | None = None,
        answered: bool = True, **where: Any,
    ) -> None:  # fmt: skip
        """The three packets with MP_JOIN; ``wrong`` is the side whose HMAC is wrong."""
        where.setdefault("source", SECOND)
        theirs = join_hmac(keys[1], keys[0], NONCES[1], NONCES[0], self.version)
        ours = join_hmac(keys[0], keys[1], NONCES[0], NONCES[1], self.version)
        if wrong is not None:
            theirs, ours = (ours, ours) if wrong else (theirs, theirs)
        if token is None:
            token = token_and_idsn(keys[1], self.version)[0]
        self.say(0, MpJoinSyn(False, 1, token, NONCES[0]), flags=0x02, **where)
        if answered:
            self.say(1, MpJoinSynAck(False, 0, theirs[:8], NONCES[1]), flags=0x12, **where)
            self.say(0, MpJoinAck(ours[:20]), **where)

    def pcap(self) -> bytes:
        return bytes(self.build.pcap(self.packets))

    def read(self, read: Any) -> trace.Trace:
        found: trace.Trace = read(self.pcap())
        assert found.malformed == []
        return found


def said(connection: trace.Connection, kind: str) -> list[str]:
    return [event.text for event in connection.events if event.kind == kind]


@pytest.mark.slow
@pytest.mark.program("tshark")
def test_every_signal_decodes_as_in_tshark(build: ModuleType, tmp_path: Path) -> None:
    talk = Talk(build)
    talk.open()
    talk.join()
    v4, v6 = ip_address("10.1.2.3").packed, ip_address("fd00::7").packed
    for address in (v4, v6):
        for port in (None, 7003):
            talk.say(1, AddAddr(3, address, port, hmac=bytes(range(8))))
            talk.say(0, AddAddr(3, address, port, echo=True))
    for ids in ((4,), (1, 2, 3, 250)):
        talk.say(0, RemoveAddr(ids))
    for backup in (False, True):
        talk.say(0, MpPrio(backup))
        talk.say(0, MpPrio(backup, 9))
    for ack_8 in (False, True):
        for dsn_8 in (False, True):
            for fin in (False, True):
                for ack in (None, 77):
                    option = Dss(ack, ack_8, 1000, dsn_8, 1, 10 + fin, None, fin)
                    talk.say(0, option, payload=bytes(10))
                    talk.say(0, Dss(ack, ack_8, 1000, dsn_8, 0, 1, None, True))
        talk.say(1, Dss(99, ack_8))
    talk.say(1, MpFail(0x1234_5678_9ABC))
    talk.say(1, Dss(dsn=1000, dsn_8=True, ssn=1, data_length=0))
    talk.say(0, MpFastclose(KEYS[1]))
    for reason in range(8):
        talk.say(0, MpTcpRst(reason, reason & 1), flags=0x14)
    talk.say(0, MpFastclose(KEYS[1]), MpTcpRst(1), flags=0x14)
    old = Talk(build, version=0)
    old.open(port=3000)
    old.join(port=3000)
    for address in (v4, v6):
        for port in (None, 7003):
            old.say(1, AddAddr(3, address, port, version=0), port=3000)
    talk.packets += old.packets
    path = tmp_path / "signals.pcap"
    path.write_bytes(talk.pcap())
    check_against(path, fields_of(path))


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("wrong", [None, 0, 1])
def test_joins_are_proved(build: ModuleType, read: Any, wrong: int | None, version: int) -> None:
    talk = Talk(build, version)
    talk.open()
    talk.join(wrong=wrong)
    capture = talk.read(read)
    (connection,) = capture.connections
    assert connection.version == version
    assert [one.hmac_ok for one in connection.subflows] == [None, wrong is None]
    text = "\n".join(explanation(capture))
    assert ("WITH A WRONG HMAC" in text) == (wrong is not None)
    assert ("\n  1!" in text) == (wrong is not None)


def test_a_token_that_nobody_has(build: ModuleType, read: Any) -> None:
    talk = Talk(build)
    talk.open()
    talk.join(token=0xDEADBEEF, answered=False)
    talk.say(1, MpTcpRst(1), flags=0x14, source=SECOND)
    known, unknown = talk.read(read).connections
    assert len(known.subflows) == len(unknown.subflows) == 1
    assert unknown.tokens == [None, 0xDEADBEEF]
    assert not unknown.complete_handshake
    assert "resets subflow 0: MPTCP error" in " ".join(said(unknown, SUBFLOW_CLOSED))
    (start,) = said(unknown, START)
    assert start == (
        f"{SECOND}:1024 asks {SERVER}:80 to join a connection whose start was not captured, "
        "version 1, token 0xdeadbeef"
    )
    assert said(unknown, REFUSED) == ["the SYN was answered by a reset"]


def test_a_join_that_is_refused(build: ModuleType, read: Any) -> None:
    talk = Talk(build)
    talk.open()
    talk.join(answered=False)
    talk.say(1, flags=0x14, source=SECOND)
    (connection,) = talk.read(read).connections
    (text,) = said(connection, REFUSED)
    assert "answered by a reset" in text


@pytest.mark.parametrize("first", [0, 1])
def test_two_connections_with_one_token(build: ModuleType, read: Any, first: int) -> None:
    """The HMACs say which of them a subflow has joined."""
    both = [(KEYS[0], key) for key in SAME_TOKEN]
    talk = Talk(build)
    for port, keys in zip((1024, 1025), both[::-1] if first else both, strict=True):
        talk.open(keys, port=port)
    for n, keys in enumerate(both):
        talk.join(keys, source=f"10.0.{5 + n}.1")
    one, other = talk.read(read).connections
    assert one.tokens[1] == other.tokens[1]
    for connection, keys in zip((one, other), both[::-1] if first else both, strict=True):
        assert connection.keys == list(keys)
        assert len(connection.subflows) == 2
        assert connection.subflows[1].hmac_ok is True
        assert connection.subflows[1].source == f"10.0.{5 + both.index(keys)}.1"


@pytest.mark.parametrize("key", [KEYS[1], KEYS[0]])
def test_an_abort(build: ModuleType, read: Any, key: int) -> None:
    talk = Talk(build)
    talk.open()
    talk.say(0, MpFastclose(key))
    (connection,) = talk.read(read).connections
    if key == KEYS[1]:
        (text,) = said(connection, CLOSED)
        assert "MP_FASTCLOSE with the right key" in text
    else:
        assert said(connection, CLOSED) == []
        (text,) = said(connection, WRONG_KEY)
        assert "the key is wrong" in text


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (0, "unspecified error"),
        (1, "MPTCP error"),
        (2, "lack of resources"),
        (3, "administratively prohibited"),
        (4, "too much outstanding data"),
        (5, "unacceptable performance"),
        (6, "middlebox interference"),
        (7, "reason 7"),
    ],
)
def test_why_a_subflow_is_reset(build: ModuleType, read: Any, reason: int, text: str) -> None:
    talk = Talk(build)
    talk.open()
    talk.join()
    talk.say(1, MpTcpRst(reason, reason & 1), flags=0x14, source=SECOND)
    capture = talk.read(read)
    (event,) = said(capture.connections[0], SUBFLOW_CLOSED)
    again = ", a retry may help" if reason & 1 else ""
    assert event == f"{SERVER}:80 resets subflow 1: {text}{again}"
    line = list(packet_lines(capture, None))[-1]
    assert f"mp tcp-rst{' transient' if reason & 1 else ''} reason {reason}" in line


def test_a_wrong_checksum_ends_in_plain_tcp(build: ModuleType, read: Any) -> None:
    """MP_FAIL, the infinite mapping, then data that no option maps."""
    idsn = token_and_idsn(KEYS[0])[1]
    talk = Talk(build)
    talk.open()
    talk.say(0, Dss(dsn=idsn + 1, ssn=1, data_length=100, checksum=7), payload=bytes(100))
    talk.say(1, MpFail(idsn + 1))
    infinite = Dss(dsn=idsn + 1, ssn=1, data_length=0, checksum=0)
    talk.say(0, infinite, payload=bytes(100))
    talk.say(0, payload=bytes(50))
    capture = talk.read(read)
    (connection,) = capture.connections
    assert connection.fallback
    (text,) = said(connection, FALLBACK)
    assert "an infinite mapping was announced" in text
    (fail,) = said(connection, "checksum failure")
    assert fail.endswith(f"a wrong checksum at data sequence number {idsn + 1}")
    assert connection.subflows[0].bytes == 250
    found = connection.subflows[0].checksums
    assert found is not None
    assert (found.verified, found.wrong, found.unverifiable) == (0, 1, 0)


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::7"])
@pytest.mark.parametrize("port", [None, 7003])
@pytest.mark.parametrize("right", [True, False])
def test_addresses_are_proved(
    build: ModuleType, read: Any, address: str, port: int | None, right: bool
) -> None:
    packed = ip_address(address).packed
    hmac = add_addr_hmac(KEYS[1], KEYS[0], 3, packed, port)
    talk = Talk(build)
    talk.open()
    talk.say(1, AddAddr(3, packed, port, hmac=hmac if right else hmac[::-1]))
    talk.say(0, AddAddr(3, packed, port, echo=True))
    (connection,) = talk.read(read).connections
    place = (
        address if port is None else f"[{address}]:7003" if ":" in address else f"{address}:7003"
    )
    proof = "" if right else ", WITH A WRONG HMAC"
    assert said(connection, ADDRESS) == [
        f"{SERVER}:80 announces {place} as address ID 3{proof}",
        f"{CLIENT}:1024 confirms address ID 3, {place}",
    ]


def test_addresses_withdrawn_and_priorities(build: ModuleType, read: Any) -> None:
    talk = Talk(build)
    talk.open()
    talk.say(0, RemoveAddr((1, 2, 250)))
    talk.say(0, MpPrio(True))
    talk.say(1, MpPrio(False, 9))
    (connection,) = talk.read(read).connections
    assert said(connection, "address removed") == [f"{CLIENT}:1024 withdraws address ID 1, 2, 250"]
    assert said(connection, "priority") == [
        f"{CLIENT}:1024 asks that subflow 0 be a backup",
        f"{SERVER}:80 asks that address ID 9 be a regular subflow",
    ]


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_the_end_of_the_data(build: ModuleType, read: Any, wide: bool, alone: bool) -> None:
    """DATA_FIN with the last data and by itself, numbers of 4 and of 8 bytes, mapped first data."""
    mask = (1 << 64) - 1 if wide else 0xFFFF_FFFF
    idsn, theirs = (token_and_idsn(key)[1] for key in KEYS)
    talk = Talk(build)
    talk.open()
    talk.say(0, MpCapable(1, 1, *KEYS, data_length=30), payload=bytes(30))
    talk.say(1, Dss(idsn + 31 & mask, wide))
    ack = theirs + 1 & mask
    last = Dss(ack, wide, idsn + 31 & mask, wide, 31, 20 + (not alone), data_fin=not alone)
    talk.say(0, last, payload=bytes(20))
    if alone:
        talk.say(0, Dss(ack, wide, idsn + 51 & mask, wide, 0, 1, data_fin=True))
    talk.say(1, Dss(idsn + 52 & mask, wide, theirs + 1 & mask, wide, 0, 1, data_fin=True))
    capture = talk.read(read)
    (connection,) = capture.connections
    assert connection.side_bytes(0) == 50
    assert connection.subflows[0].halves[0].data_rel[-1] in (1, 31)
    assert [event.side for event in connection.events if "DATA_FIN" in event.text] == [0, 1]
    lines = list(packet_lines(capture, None))
    assert ("fin" in lines[5]) == (not alone)
