"""What a sender makes of the first signs of loss: limited transmit and tail loss probes."""

from __future__ import annotations

import pytest
from tests.conformance.tcp_peer import MASK32, TcpPeer, plain

from mptcplab.stack.testing import subflow_rows
from mptcplab.wire.segment import Segment

MSS = 1000


def sending(size: int, sack: bool = True, window: int = 60_000) -> tuple[TcpPeer, list[Segment]]:
    """Return a peer 20 ms away, and what it got of so much written, a round trip ago."""
    peer = TcpPeer(plain())
    peer.defaults = {"window": window}
    peer.syn(mss=MSS, sack_permitted=sack)
    peer.later(20)
    peer.say()
    sent = peer.write(bytes(size))
    peer.later(20)
    return peer, sent


def window_bytes(peer: TcpPeer) -> int:
    assert peer.connection is not None
    return int(subflow_rows(peer.connection)[0]["cwnd_bytes"])


@pytest.mark.parametrize("sack", [True, False])
def test_rfc_3042_two_duplicates_let_a_new_segment_leave_each(sack: bool) -> None:
    """Section 2: the window stays; of the third on, recovery decides."""
    peer, sent = sending(40 * MSS, sack=sack)
    assert len(sent) == 10
    before = window_bytes(peer)
    first = sent[0].seq
    for number in (1, 2):
        left = sent[number].seq
        blocks = ((sent[1].seq, left + MSS & MASK32),) if sack else ()
        answers = peer.say(ack=first, sack=blocks)
        assert [segment.seq for segment in answers] == [sent[-1].seq + number * MSS & MASK32]
        assert window_bytes(peer) == before
    blocks = ((sent[1].seq, sent[3].seq + MSS & MASK32),) if sack else ()
    assert peer.say(ack=first, sack=blocks)[0].seq == first


def test_rfc_3042_needs_room_in_the_peers_window() -> None:
    peer, sent = sending(40 * MSS, window=10 * MSS)
    assert len(sent) == 10
    block = (sent[1].seq, sent[2].seq)
    assert peer.say(ack=sent[0].seq, sack=(block,)) == []


def test_rfc_8985_7_3_a_probe_takes_new_data_where_there_are_any() -> None:
    """Beyond the congestion window, one segment, within the peer's window."""
    peer, sent = sending(40 * MSS)
    probe = peer.later(100)[0]
    assert probe.seq == sent[-1].seq + MSS & MASK32
    assert probe.payload_bytes == MSS


def test_rfc_8985_7_3_a_probe_repeats_the_last_segment_where_there_are_none() -> None:
    peer, sent = sending(10 * MSS)
    assert [segment.seq for segment in peer.later(100)] == [sent[-1].seq]


def test_rfc_8985_7_3_a_probe_repeats_where_the_peers_window_takes_nothing() -> None:
    peer, sent = sending(40 * MSS, window=10 * MSS)
    assert [segment.seq for segment in peer.later(100)] == [sent[-1].seq]


def test_rfc_8985_7_4_an_acknowledged_probe_of_new_data_shows_no_loss() -> None:
    """Section 7.4.2: only a probe that repeated data can have repaired a loss."""
    peer, sent = sending(40 * MSS)
    before = window_bytes(peer)
    probe = peer.later(100)[0]
    peer.say(ack=probe.seq + MSS & MASK32)
    assert window_bytes(peer) >= before
    peer, sent = sending(10 * MSS)
    peer.later(100)
    peer.write(bytes(MSS))
    peer.say(ack=sent[-1].seq + MSS & MASK32)
    assert window_bytes(peer) >= before


def test_rfc_8985_7_3_there_is_one_probe_at_a_time() -> None:
    peer, _ = sending(40 * MSS)
    assert len(peer.later(100)) == 1
    assert peer.write(bytes(MSS)) == []
