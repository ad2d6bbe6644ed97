"""DSS checksums: verified where the capture holds all of a mapping, wrong ones said."""

from __future__ import annotations

import itertools
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mptcplab import trace
from mptcplab.trace.findings.events import WRONG_CHECKSUM
from mptcplab.trace.follow.checksums import payload_sums
from mptcplab.trace.output.explain import explanation
from mptcplab.trace.output.to_json import to_json
from mptcplab.wire.checksum import dss_checksum, ones_sum
from mptcplab.wire.keys import token_and_idsn
from mptcplab.wire.mptcp import CAPABLE_CHECKSUM, CAPABLE_HMAC, Dss, MpCapable

KEY_A, KEY_B = 0xB481B3D168E8E36D, 0x19BAF9DC9C5916AF
IDSN = token_and_idsn(KEY_A, 1)[1]
DATA = Random(7).randbytes(9001)


class Sender:
    """Builds what one side sends after its SYN with number 100."""

    def __init__(self, build: ModuleType, snap: int = 262144) -> None:
        self.build, self.snap = build, snap
        self.packets: list[bytes] = []
        self._segment("10.0.0.1", 1024, 80, 100, 0, build.SYN, build.capable())
        self._segment("10.0.0.2", 80, 1024, 500, 101, build.SYN | build.ACK, build.capable(KEY_B))
        keys = build.capable(KEY_A, KEY_B)
        self._segment("10.0.0.1", 1024, 80, 101, 501, build.ACK, keys)

    def _segment(self, source: str, *rest: Any) -> None:
        other = "10.0.0.2" if source == "10.0.0.1" else "10.0.0.1"
        packet = self.build.ipv4(source, other, self.build.tcp(*rest))
        self.packets.append(self.build.ethernet(packet))

    def data(self, ssn: int, option: bytes, payload: bytes) -> None:
        """A segment whose payload starts at a subflow sequence number."""
        self._segment("10.0.0.1", 1024, 80, 100 + ssn, 501, self.build.ACK, option, payload)

    def mapping(self, ssn: int, size: int, fin: bool = False, wide: bool = True) -> bytes:
        """The DSS of ``DATA[ssn - 1 :][: size]``, with the right checksum."""
        payload = DATA[ssn - 1 :][:size]
        total = dss_checksum(IDSN + ssn, ssn if size else 0, size + fin, ones_sum(payload))
        option = Dss(
            dsn=IDSN + ssn if wide else IDSN + ssn & 0xFFFF_FFFF,
            dsn_8=wide,
            ssn=ssn if size else 0,
            data_length=size + fin,
            checksum=total,
            data_fin=fin,
        )
        return option.encode()

    def read(self, read: Any) -> trace.Trace:
        """The capture, analysed."""
        found: trace.Trace = read(self.build.pcap(self.packets, snap=self.snap))
        assert found.malformed == []
        return found


def counts(capture: trace.Trace) -> tuple[int, int, int] | None:
    (connection,) = capture.connections
    found = connection.subflows[0].checksums
    return None if found is None else (found.verified, found.wrong, found.unverifiable)


def test_sums_of_any_length_at_any_place() -> None:
    data = np.frombuffer(DATA + bytes(512), dtype=np.uint8)
    random = Random(3)
    at = [random.randrange(9000) for _ in range(300)]
    size = [random.randrange(9001 - start) for start in at]
    expected = [ones_sum(DATA[a : a + n]) % 0xFFFF for a, n in zip(at, size, strict=True)]
    assert payload_sums(data, np.array(at), np.array(size)).tolist() == expected


@pytest.mark.parametrize("wide", [True, False])
def test_a_mapping_in_each_packet(build: ModuleType, read: Any, wide: bool) -> None:
    sender = Sender(build)
    for ssn in range(1, 9001, 1000):
        size = min(1000, 9001 - ssn + 1)
        sender.data(ssn, sender.mapping(ssn, size, wide=wide), DATA[ssn - 1 :][:size])
    sender.data(9001, sender.mapping(9001, 1, fin=True, wide=wide), DATA[9000:])
    assert counts(sender.read(read)) == (10, 0, 0)


def test_what_the_kernel_sends_first(build: ModuleType, read: Any) -> None:
    """5000 bytes "q" mapped by MP_CAPABLE, a DATA_FIN alone: options of a 6.18 kernel."""
    sender = Sender(build)
    option = bytes.fromhex("1e180181b481b3d168e8e36d19baf9dc9c5916af1388663f")
    for ssn in range(1, 5001, 1400):
        sender.data(ssn, option, b"q" * min(1400, 5001 - ssn))
    for _ in range(2):  # a DATA_FIN that is sent again counts once
        fin = Dss(None, True, IDSN + 5001, True, 0, 1, 0x3E17, data_fin=True)
        sender.data(5001, fin.encode(), b"")
    assert counts(sender.read(read)) == (2, 0, 0)


@pytest.mark.parametrize("wide", [True, False])
def test_mp_capable_maps_and_dss_goes_on(build: ModuleType, read: Any, wide: bool) -> None:
    """As a 6.18 kernel does with a first write that takes more than one packet."""
    sender = Sender(build)
    dss = sender.mapping(1, 3000, wide=wide)
    flags = CAPABLE_HMAC | CAPABLE_CHECKSUM
    checksum = int.from_bytes(dss[-2:], "big")
    opening = MpCapable(1, flags, KEY_A, KEY_B, 3000, checksum).encode()
    for ssn in range(1, 3001, 1000):
        sender.data(ssn, opening if ssn == 1 else dss, DATA[ssn - 1 :][:1000])
    assert counts(sender.read(read)) == (1, 0, 0)


def test_a_data_fin_joins_a_mapping_that_is_being_sent(build: ModuleType, read: Any) -> None:
    """As a 6.18 kernel does where the application closes before all of it is sent."""
    sender = Sender(build)
    before, after = sender.mapping(1, 3000), sender.mapping(1, 3000, fin=True)
    for ssn in range(1, 3001, 1000):
        sender.data(ssn, before if ssn < 2001 else after, DATA[ssn - 1 :][:1000])
    assert counts(sender.read(read)) == (1, 0, 0)


@pytest.mark.parametrize("batch", [3, 100])
def test_what_is_sent_again_is_cut_elsewhere(
    build: ModuleType, read: Any, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces overlap; those of the first transmission make the mapping whole."""
    monkeypatch.setattr("mptcplab.trace.files.capture.BATCH_PACKETS", batch)
    sender = Sender(build)
    option = sender.mapping(1, 3000)
    for first, end in [(1, 1001), (1, 1501), (1501, 1701), (1001, 3001)]:
        sender.data(first, option, DATA[first - 1 : end - 1])
    assert counts(sender.read(read)) == (1, 0, 0)


@pytest.mark.parametrize("again", [False, True])
def test_a_mapping_in_odd_pieces_late_and_twice(build: ModuleType, read: Any, again: bool) -> None:
    sender = Sender(build)
    option = sender.mapping(1, 5001)
    cuts = [1, 702, 703, 2104, 2105, 4000, 5002]
    pieces = list(itertools.pairwise(cuts))
    order = [0, 2, 1, 2, 4, 3, 5] if again else [0, 2, 1, 4, 5, 3]
    for k in order:
        first, end = pieces[k]
        sender.data(first, option if first == 1 else b"", DATA[first - 1 : end - 1])
    if again:  # all of it, in one piece
        sender.data(1, option, DATA[:5001])
    sender.data(5002, sender.mapping(5002, 4000), DATA[5001:])
    assert counts(sender.read(read)) == (2, 0, 0)


def test_a_changed_byte_is_said(build: ModuleType, read: Any) -> None:
    sender = Sender(build)
    sender.data(1, sender.mapping(1, 1000), DATA[:1000])
    broken = bytearray(DATA[1000:2000])
    broken[500] ^= 4
    sender.data(1001, sender.mapping(1001, 1000), bytes(broken))
    sender.data(2001, sender.mapping(2001, 1000), DATA[2000:3000])
    capture = sender.read(read)
    assert counts(capture) == (2, 1, 0)
    (event,) = [one for one in capture.connections[0].events if one.kind == WRONG_CHECKSUM]
    assert event.number == 5
    text = "\n".join(explanation(capture))
    assert "DSS checksums: 2 right, 1 WRONG" in text
    assert "data of 10.0.0.1:1024 on subflow 0 do not fit their DSS checksum" in text
    (subflow,) = to_json(capture)["connections"][0]["subflows"]
    assert subflow["checksums"] == {"verified": 2, "wrong": 1, "unverifiable": 0}


@pytest.mark.parametrize("field", ["dsn", "ssn", "data_length", "checksum"])
def test_every_field_counts(build: ModuleType, read: Any, field: str) -> None:
    sender = Sender(build)
    values: dict[str, Any] = {"dsn": IDSN + 1, "ssn": 1, "data_length": 1000}
    values["checksum"] = dss_checksum(IDSN + 1, 1, 1000, ones_sum(DATA[:1000]))
    values[field] += 0x100 if field == "checksum" else -1
    option = Dss(None, True, dsn_8=True, **values)
    sender.data(1, option.encode(), DATA[: values["data_length"]])
    verdict = counts(sender.read(read))
    # A mapping that starts a byte earlier is not there in full.
    assert verdict == ((0, 0, 1) if field == "ssn" else (0, 1, 0))


def test_what_is_not_all_there_is_not_judged(build: ModuleType, read: Any) -> None:
    sender = Sender(build, snap=128)
    for ssn in range(1, 9001, 1000):
        sender.data(ssn, sender.mapping(ssn, 1000), DATA[ssn - 1 :][:1000])
    option = sender.mapping(1, 3000)
    assert counts(sender.read(read)) == (0, 0, 9)
    cut = Sender(build, snap=128)
    for ssn in range(1, 3001, 1000):
        cut.data(ssn, option, DATA[ssn - 1 :][:1000])
    assert counts(cut.read(read)) == (0, 0, 1)
    gap = Sender(build)
    for ssn in (1, 2001):
        gap.data(ssn, option, DATA[ssn - 1 :][:1000])
    assert counts(gap.read(read)) == (0, 0, 1)


def test_the_start_is_not_there(build: ModuleType, read: Any) -> None:
    """64-bit numbers need no IDSN, those of 32 bits do."""
    for wide, expected in ((True, (2, 0, 0)), (False, (0, 0, 2))):
        sender = Sender(build)
        del sender.packets[:]
        for ssn in (1, 1001):
            sender.data(ssn, sender.mapping(ssn, 1000, wide=wide), DATA[ssn - 1 :][:1000])
        assert counts(sender.read(read)) == expected


def test_without_checksums_there_is_nothing_to_say(build: ModuleType, read: Any) -> None:
    sender = Sender(build)
    sender.data(1, build.dss(None, IDSN + 1, 1, 1000), DATA[:1000])
    capture = sender.read(read)
    assert counts(capture) is None
    assert to_json(capture)["connections"][0]["subflows"][0]["checksums"] is None


def test_mappings_over_the_ends_of_batches(
    build: ModuleType, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mptcplab.trace.files.capture.BATCH_PACKETS", 7)
    sender = Sender(build)
    random = Random(11)
    for ssn in range(1, 9001, 900):
        option = sender.mapping(ssn, 900)
        cuts = sorted({0, 900, *(random.randrange(900) for _ in range(4))})
        pieces = list(itertools.pairwise(cuts))
        random.shuffle(pieces)
        for first, end in pieces + random.sample(pieces, 2):
            sender.data(ssn + first, option, DATA[ssn - 1 + first : ssn - 1 + end])
    assert counts(sender.read(read)) == (10, 0, 0)
