"""RFC 9293 section 3.10.7, segment by segment, with RFC 5961 and RFC 7323 where they amend it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.conformance.tcp_peer import MASK32, OUR_PORT, PEER, PEER_PORT, US, TcpPeer, plain
from tests.times import MS, SECOND

from mptcplab.stack.events import CloseReason
from mptcplab.stack.tcp.receiver import MAX_QUICK_ACKS
from mptcplab.stack.testing import subflow_rows
from mptcplab.wire.ip import encode_ip_header
from mptcplab.wire.packet import decode_packet
from mptcplab.wire.segment import ACK, FIN, PSH, RST, SYN, Segment

# Ways into each synchronized state; ours is the server.


def established(peer: TcpPeer) -> None:
    peer.open()


def fin_wait_1(peer: TcpPeer) -> None:
    peer.open()
    (fin,) = peer.close()
    assert fin.flags & FIN


def fin_wait_2(peer: TcpPeer) -> None:
    fin_wait_1(peer)
    peer.ack = peer.ack + 1 & MASK32
    peer.say()


def close_wait(peer: TcpPeer) -> None:
    peer.open()
    peer.send(b"", flags=FIN | ACK)


def closing(peer: TcpPeer) -> None:
    fin_wait_1(peer)
    peer.send(b"", flags=FIN | ACK)


def last_ack(peer: TcpPeer) -> None:
    close_wait(peer)
    peer.close()


def time_wait(peer: TcpPeer) -> None:
    closing(peer)
    peer.ack = peer.ack + 1 & MASK32
    peer.say()


STATES: dict[str, Callable[[TcpPeer], None]] = {
    "ESTABLISHED": established,
    "FIN-WAIT-1": fin_wait_1,
    "FIN-WAIT-2": fin_wait_2,
    "CLOSE-WAIT": close_wait,
    "CLOSING": closing,
    "LAST-ACK": last_ack,
    "TIME-WAIT": time_wait,
}
EVERY_STATE = pytest.mark.parametrize("state", list(STATES))


def in_state(state: str) -> TcpPeer:
    peer = TcpPeer()
    STATES[state](peer)
    assert peer.state == state
    return peer


def only_ack(peer: TcpPeer, answers: list[Segment]) -> None:
    """An empty ACK of what was received in order so far, and nothing else."""
    (answer,) = answers
    assert answer.flags == ACK
    assert answer.payload_bytes == 0
    assert answer.ack == peer.seq


# CLOSED and LISTEN (3.10.7.1, 3.10.7.2).


def bare(stack_port: int, **fields: object) -> list[Segment]:
    peer = TcpPeer()
    peer.stack.listen(OUR_PORT)
    segment = Segment(PEER, PEER_PORT, US, stack_port, **fields)  # type: ignore[arg-type]
    peer.stack.receive(segment, peer.now_ns)
    return peer.collect()


@pytest.mark.parametrize("port", [OUR_PORT, 81], ids=["LISTEN", "CLOSED"])
def test_ack_of_no_connection_is_reset_with_its_own_number(port: int) -> None:
    (answer,) = bare(port, flags=ACK, seq=7, ack=99)
    assert (answer.flags, answer.seq) == (RST, 99)


def test_syn_to_a_closed_port_is_reset_and_acknowledged() -> None:
    (answer,) = bare(81, flags=SYN, seq=MASK32, payload_bytes=4)
    assert (answer.flags, answer.seq, answer.ack) == (RST | ACK, 0, 4)


@pytest.mark.parametrize("flags", [RST, RST | ACK, RST | SYN])
@pytest.mark.parametrize("port", [OUR_PORT, 81])
def test_reset_of_no_connection_is_ignored(port: int, flags: int) -> None:
    assert bare(port, flags=flags, seq=5, ack=6) == []


# SYN-SENT (3.10.7.3).


@pytest.mark.parametrize("off", [-1, 1, 0x8000_0000])
def test_syn_sent_unacceptable_ack_is_reset_and_the_attempt_goes_on(off: int) -> None:
    peer = TcpPeer()
    peer.syn_sent()
    wrong = peer.ack + off & MASK32
    (answer,) = peer.say(flags=SYN | ACK, ack=wrong)
    assert (answer.flags, answer.seq) == (RST, wrong)
    assert peer.say(flags=RST | ACK, ack=wrong) == []
    assert peer.state == "SYN-SENT"


def test_syn_sent_reset_that_acknowledges_our_syn_refuses() -> None:
    peer = TcpPeer()
    peer.syn_sent()
    assert peer.say(flags=RST) == []
    assert peer.state == "SYN-SENT"
    assert peer.say(flags=RST | ACK) == []
    assert peer.state == "CLOSED"
    assert peer.reason is CloseReason.REFUSED


def test_syn_sent_ack_or_fin_without_syn_is_dropped() -> None:
    peer = TcpPeer()
    peer.syn_sent()
    assert peer.say(flags=ACK) == []
    assert peer.say(flags=FIN | ACK) == []
    assert peer.state == "SYN-SENT"


def test_simultaneous_open() -> None:
    peer = TcpPeer()
    syn = peer.syn_sent()
    (answer,) = peer.say(flags=SYN, ack=0, mss=1000)
    assert (answer.flags, answer.seq, answer.ack) == (SYN | ACK, syn.seq, peer.seq + 1 & MASK32)
    assert peer.state == "SYN-RECEIVED"
    peer.say(flags=SYN | ACK, mss=1000)
    assert peer.state == "ESTABLISHED"
    peer.seq = peer.seq + 1 & MASK32
    peer.send(b"works")
    assert peer.read() == b"works"


def test_syn_ack_answered_again_when_repeated() -> None:
    peer = TcpPeer()
    peer.connect()
    assert peer.state == "ESTABLISHED"
    (answer,) = peer.say(flags=SYN | ACK, seq=peer.seq - 1 & MASK32, mss=1000)
    assert (answer.flags, answer.ack) == (ACK, peer.seq)


# SYN-RECEIVED.


def test_syn_received_repeats_its_answer_to_a_repeated_syn() -> None:
    peer = TcpPeer()
    first = peer.syn()
    (again,) = peer.say(flags=SYN, seq=peer.seq - 1 & MASK32, ack=0, mss=1000)
    assert (again.flags, again.seq, again.ack) == (first.flags, first.seq, first.ack)


def test_syn_received_wrong_ack_is_reset() -> None:
    peer = TcpPeer()
    peer.syn()
    (answer,) = peer.say(ack=peer.ack + 77 & MASK32)
    assert (answer.flags, answer.seq) == (RST, peer.ack + 77 & MASK32)
    assert peer.state == "SYN-RECEIVED"


def test_syn_received_reset_returns_to_listen() -> None:
    peer = TcpPeer()
    peer.syn()
    assert peer.say(flags=RST) == []
    assert peer.state == "CLOSED"
    assert not peer.stack.connections


def test_syn_received_data_may_come_with_the_last_ack_of_the_handshake() -> None:
    peer = TcpPeer()
    peer.syn()
    peer.send(b"hello", flags=ACK | PSH)
    assert peer.read() == b"hello"


def test_syn_received_fin_at_once() -> None:
    peer = TcpPeer()
    peer.syn()
    peer.send(b"all", flags=ACK | FIN)
    assert peer.state == "CLOSE-WAIT"
    assert peer.read() == b"all"


# Synchronized states: the checks in their order.


@EVERY_STATE
@pytest.mark.parametrize("off", [-20_000, 20_000, 0x8000_0000])
def test_segment_outside_the_window_is_answered_with_an_ack(state: str, off: int) -> None:
    peer = in_state(state)
    only_ack(peer, peer.say(payload=b"stray", seq=peer.seq + off & MASK32))
    assert peer.state == state
    assert peer.read() == b""


@EVERY_STATE
def test_reset_with_the_exact_number_closes(state: str) -> None:
    peer = in_state(state)
    assert peer.say(flags=RST) == []
    assert peer.state == "CLOSED"
    lost = state in ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT")
    assert peer.reason is (CloseReason.RESET if lost else CloseReason.FINISHED)


@EVERY_STATE
def test_reset_elsewhere_in_the_window_is_challenged_and_outside_ignored(state: str) -> None:
    peer = in_state(state)
    assert peer.say(flags=RST, seq=peer.seq + 30_000 & MASK32) == []
    assert peer.say(flags=RST, seq=peer.seq - 5 & MASK32) == []
    answers = peer.say(flags=RST, seq=peer.seq + 10 & MASK32)
    only_ack(peer, answers)
    assert peer.state == state


@EVERY_STATE
@pytest.mark.parametrize("flags", [SYN, SYN | ACK])
def test_syn_is_challenged(state: str, flags: int) -> None:
    """RFC 5961 section 4, whatever its number; TIME-WAIT may give way to a later one."""
    peer = in_state(state)
    seq = peer.seq - 1000 & MASK32
    only_ack(peer, peer.say(flags=flags, seq=seq))
    assert peer.state == state


def test_time_wait_gives_way_to_a_later_syn() -> None:
    peer = in_state("TIME-WAIT")
    old = peer.connection
    peer.stack.listen(OUR_PORT)
    (answer,) = peer.say(flags=SYN, seq=peer.seq + 5000 & MASK32, ack=0)
    assert answer.flags == SYN | ACK
    assert peer.connection is not old


@EVERY_STATE
def test_segment_without_ack_is_dropped(state: str) -> None:
    peer = in_state(state)
    assert peer.say(payload=b"no ack", flags=0) == []
    assert peer.read() == b""
    assert peer.state == state


@EVERY_STATE
def test_ack_of_what_was_never_sent_is_answered_and_dropped(state: str) -> None:
    peer = in_state(state)
    only_ack(peer, peer.say(payload=b"lies", ack=peer.ack + 5000 & MASK32))
    assert peer.read() == b""
    assert peer.state == state


def test_ack_older_than_any_window_is_answered_and_dropped() -> None:
    """RFC 5961 section 5.2: data cannot be injected with a guessed acknowledgment."""
    peer = in_state("ESTABLISHED")
    only_ack(peer, peer.say(payload=b"blind", ack=peer.ack - 70_000 & MASK32))
    assert peer.read() == b""
    peer.send(b"old but possible", ack=peer.ack - 50_000 & MASK32)
    assert peer.read() == b"old but possible"


@pytest.mark.parametrize("state", ["CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT"])
def test_repeated_fin_is_acknowledged(state: str) -> None:
    peer = in_state(state)
    only_ack(peer, peer.say(flags=FIN | ACK, seq=peer.seq - 1 & MASK32))
    assert peer.state == state


def test_time_wait_lasts_two_segment_lifetimes_from_the_last_fin() -> None:
    peer = in_state("TIME-WAIT")
    peer.later(59_000)
    peer.say(flags=FIN | ACK, seq=peer.seq - 1 & MASK32)
    assert peer.later(59_000) == []
    assert peer.state == "TIME-WAIT"
    peer.later(1_001)
    assert peer.state == "CLOSED"


# Half-closed and closing streams.


def test_half_close_lets_the_other_direction_go_on() -> None:
    peer = in_state("CLOSE-WAIT")
    (sent,) = peer.write(b"still talking")
    assert sent.payload == b"still talking"
    peer.ack = peer.ack + len(b"still talking") & MASK32
    peer.say()
    (fin,) = peer.close()
    assert fin.flags & FIN
    peer.ack = peer.ack + 1 & MASK32
    peer.say()
    assert peer.state == "CLOSED"
    assert peer.reason is CloseReason.FINISHED


def test_data_arrive_after_our_fin() -> None:
    peer = in_state("FIN-WAIT-2")
    peer.send(b"more")
    assert peer.read() == b"more"
    peer.send(b"and the end", flags=ACK | FIN)
    assert peer.read() == b"and the end"
    assert peer.state == "TIME-WAIT"


def test_fin_out_of_order_waits_for_what_is_before_it() -> None:
    peer = in_state("ESTABLISHED")
    (answer,) = peer.say(flags=ACK | FIN, payload=b"world", seq=peer.seq + 6 & MASK32)
    assert answer.ack == peer.seq
    assert peer.state == "ESTABLISHED"
    (answer,) = peer.send(b"hello ")
    assert answer.ack == peer.seq + 6 & MASK32
    assert peer.state == "CLOSE-WAIT"
    assert peer.read() == b"hello world"


def test_fin_that_lies_before_what_was_received_does_not_spoil_the_end() -> None:
    peer = in_state("ESTABLISHED")
    peer.send(b"0123456789")
    peer.say(flags=ACK | FIN, seq=peer.seq - 3 & MASK32)
    assert peer.state == "ESTABLISHED"
    peer.send(b"rest", flags=ACK | FIN)
    assert peer.state == "CLOSE-WAIT"
    assert peer.read() == b"0123456789rest"


def test_nothing_is_taken_beyond_a_fin() -> None:
    peer = in_state("ESTABLISHED")
    peer.say(flags=ACK | FIN, payload=b"d", seq=peer.seq + 3 & MASK32)
    peer.say(payload=b"abcdefgh")
    assert peer.read() == b"abcd"
    assert peer.state == "CLOSE-WAIT"


def test_fin_and_data_of_a_lost_packet_are_sent_again() -> None:
    peer = in_state("ESTABLISHED")
    peer.write(b"tail")
    peer.close()
    again = peer.later(2_000)
    assert any(segment.payload == b"tail" for segment in again)
    peer.ack = peer.ack + 4 & MASK32
    peer.say()
    assert any(segment.flags & FIN for segment in peer.later(2_000))


# Windows.


def test_data_beyond_the_window_are_cut_off() -> None:
    peer = in_state("ESTABLISHED")
    peer.send(bytes(9_000))
    (answer,) = peer.say(payload=b"x" * 1_200)
    assert answer.window == 0
    assert peer.read() == bytes(9_000) + b"x" * 1_000


def test_zero_window_accepts_acks_and_answers_probes_of_one_byte() -> None:
    peer = in_state("ESTABLISHED")
    peer.send(bytes(10_000))
    (answer,) = peer.say(payload=b"?")
    assert (answer.ack, answer.window) == (peer.seq, 0)
    peer.write(b"sent despite our own closed window")
    peer.ack = peer.ack + 34 & MASK32
    peer.say()
    assert peer.connection is not None
    assert peer.connection.data_acked_bytes() == 34


def test_window_opens_in_steps_of_a_segment() -> None:
    """RFC 9293 section 3.8.6.2.2, MUST-39."""
    peer = in_state("ESTABLISHED")
    peer.send(bytes(10_000))
    assert peer.connection is not None
    peer.connection.read(300)
    peer.collect()
    (answer,) = peer.say(payload=b"?")
    assert answer.window == 0
    peer.connection.read(2_700)
    (update,) = peer.collect()
    assert update.window == 3_000


def test_sliver_of_window_is_not_filled_while_data_are_in_flight() -> None:
    """RFC 9293 section 3.8.6.2.1, MUST-38."""
    peer = in_state("ESTABLISHED")
    peer.say(window=3_000)
    sent = peer.write(bytes(10_000))
    assert [segment.payload_bytes for segment in sent] == [1_000, 1_000, 1_000]
    peer.ack = peer.ack + 1_000 & MASK32
    assert peer.say(window=2_100) == []
    (segment,) = peer.say(window=3_000)
    assert segment.payload_bytes == 1_000


def test_window_that_shrinks_is_obeyed_and_outlived() -> None:
    """RFC 9293 section 3.8.6, MUST-34, and 3.8.6.1: a closed window never ends a connection."""
    peer = in_state("ESTABLISHED")
    peer.say(window=4_000)
    assert len(peer.write(bytes(20_000))) == 4
    assert peer.say(window=0, ack=peer.ack + 1_000 & MASK32) == []
    peer.ack = peer.ack + 1_000 & MASK32
    for _ in range(60):
        for segment in peer.later(60_000):
            assert segment.payload_bytes <= 1_000
            assert (segment.seq - peer.ack & MASK32) < 3_000, "no new data"
            peer.say(window=0)
    assert peer.state == "ESTABLISHED"
    peer.say(window=20_000)
    assert any(segment.payload_bytes for segment in peer.later(121_000))


def test_old_segment_does_not_update_the_window() -> None:
    peer = in_state("ESTABLISHED")
    peer.send(b"older", window=9_000)
    peer.send(b"newer", window=500)
    peer.say(seq=peer.seq - 10 & MASK32, payload=b"older", window=9_000)
    (segment,) = peer.write(bytes(5_000))
    assert segment.payload_bytes == 500


def test_probes_without_any_answer_end_the_connection() -> None:
    peer = in_state("ESTABLISHED")
    peer.say(window=0)
    assert peer.write(bytes(100)) == []
    probes = peer.later(4 * 3_600_000)
    assert all(probe.payload_bytes == 0 for probe in probes[:-1])
    assert peer.state == "CLOSED"
    assert peer.reason is CloseReason.TIMEOUT


def test_numbers_wrap_on_both_sides() -> None:
    peer = TcpPeer(plain(receive_buffer_bytes=60_000), isn=MASK32 - 5)
    peer.open()
    received = b""
    for number in range(40):
        piece = bytes((number,)) * 300
        peer.send(piece)
        received += peer.read()
    assert received == b"".join(bytes((number,)) * 300 for number in range(40))


# Timestamps (RFC 7323).


def with_timestamps() -> TcpPeer:
    peer = TcpPeer(plain(timestamps=True))
    peer.defaults = {"ts_val": 0xFFFF_FFF0, "ts_ecr": 0}
    answer = peer.syn()
    assert answer.ts_ecr == 0xFFFF_FFF0
    peer.say()
    return peer


def test_paws_answers_old_timestamps_and_takes_wrapped_ones() -> None:
    peer = with_timestamps()
    peer.send(b"wrapped", ts_val=5)
    only_ack(peer, peer.say(payload=b"old", ts_val=0xFFFF_FFFF))
    only_ack(peer, peer.say(payload=b"old", ts_val=0xFFFF_FFFF))
    assert peer.read() == b"wrapped"
    assert peer.say(flags=RST, ts_val=1) == [], "resets are not subject to PAWS"
    assert peer.state == "CLOSED"


def test_timestamp_of_a_segment_outside_the_window_is_not_kept() -> None:
    """RFC 7323 section 5.3: R2 comes before R3."""
    peer = with_timestamps()
    for seq in (peer.seq - 20_000, peer.seq + 20_000):
        peer.say(payload=b"stray", seq=seq & MASK32, ts_val=0x5000_0000)
    peer.send(b"next", ts_val=0xFFFF_FFF1)
    assert peer.read() == b"next"


def test_timestamp_echoed_is_that_of_the_oldest_unacknowledged_segment() -> None:
    peer = with_timestamps()
    for _ in range(MAX_QUICK_ACKS):
        peer.send(b"0", ts_val=0xFFFF_FFF1)
    assert peer.send(b"1" * 500, ts_val=0xFFFF_FFF5) == []
    (answer,) = peer.send(b"2" * 1_500, ts_val=0xFFFF_FFF9)
    assert answer.ts_ecr == 0xFFFF_FFF5


def test_segment_without_the_negotiated_timestamp_is_dropped() -> None:
    peer = with_timestamps()
    assert peer.say(payload=b"bare", ts_val=None) == []
    assert peer.read() == b""


# Retransmission of the SYN.


def test_lost_syn_means_one_segment_and_three_seconds() -> None:
    """RFC 5681 section 3.1 and RFC 6298 (5.7)."""
    peer = TcpPeer()
    peer.syn_sent()
    assert [segment.flags for segment in peer.later(1_001)] == [SYN]
    peer.say(flags=SYN | ACK, mss=1000)
    peer.seq = peer.seq + 1 & MASK32
    assert peer.connection is not None
    (row,) = subflow_rows(peer.connection)
    assert row["cwnd_bytes"] == 1_000
    assert row["rto_ns"] == 3 * SECOND
    assert [segment.payload_bytes for segment in peer.write(bytes(5_000))] == [1_000]


def test_unknown_and_malformed_options_are_ignored() -> None:
    peer = TcpPeer()
    peer.open()
    for options in (b"\xfd\x04\xf9\x89", b"\x1e\x03\x00\x01", b"\x08\x02\x01\x01", b"\x05\x07\0\0"):
        header_words = 5 + len(options) // 4
        packet = bytearray(
            PEER_PORT.to_bytes(2, "big")
            + OUR_PORT.to_bytes(2, "big")
            + peer.seq.to_bytes(4, "big")
            + peer.ack.to_bytes(4, "big")
            + bytes((header_words << 4, ACK))
            + b"\xea\x60\0\0\0\0"
            + options
            + b"ok"
        )
        ip = encode_ip_header(PEER, US, 0, len(packet))
        peer.stack.receive(decode_packet(ip + bytes(packet)), peer.now_ns)
        peer.collect()
        peer.seq = peer.seq + 2 & MASK32
    assert peer.read() == b"ok" * 4


def test_a_retransmission_that_is_lost_is_noticed_from_one_sent_after_it() -> None:
    """RFC 8985 section 6.2, while the timestamps echoed are those of before the hole."""
    peer = TcpPeer(plain(timestamps=True))
    peer.defaults = {"ts_val": 100, "ts_ecr": 0}
    answer = peer.syn(sack_permitted=True)
    peer.say(ts_ecr=answer.ts_val)
    peer.now_ns += 50 * MS
    flight = peer.write(bytes(9_000))
    first, second = flight[0], flight[5]
    end = flight[-1].seq + flight[-1].payload_bytes & MASK32
    middle = (flight[1].seq, second.seq)
    peer.now_ns += 50 * MS
    say = {"ack": first.seq, "ts_ecr": first.ts_val}
    sent = peer.say(sack=((flight[6].seq, end), middle), **say)
    for _ in range(3):
        peer.now_ns += MS
        sent += peer.say(sack=((flight[6].seq, end), middle), **say)
    sent += peer.later(40)
    assert [packet.seq for packet in sent][:2] == [first.seq, second.seq]
    peer.now_ns += 20 * MS  # the first is lost once more, the second arrives
    answers = peer.say(sack=((flight[1].seq, end),), **say) + peer.later(20)
    assert [packet.seq for packet in answers] == [first.seq]


@pytest.mark.parametrize("sack", [True, False])
def test_the_first_duplicate_acks_send_a_segment_each_and_leave_the_window(sack: bool) -> None:
    """RFC 3042 section 2, RFC 6675 section 5."""
    peer = TcpPeer()
    peer.syn(mss=1_000, sack_permitted=sack)
    peer.now_ns += 50 * MS
    peer.say()
    assert peer.connection is not None
    congestion = peer.connection.subflows[0].tcp.sender.congestion
    before = congestion.cwnd_bytes
    flight = peer.write(bytes(40_000))
    assert len(flight) == before // 1_000
    peer.now_ns += 50 * MS
    for count in (1, 2):
        peer.now_ns += MS
        block = (flight[1].seq, flight[1].seq + 1_000 * count & MASK32)
        answers = peer.say(ack=flight[0].seq, sack=(block,) if sack else ())
        assert [packet.payload_bytes for packet in answers] == [1_000]
        assert congestion.cwnd_bytes == before
