"""The small mechanisms: RTT, scoreboard, reassembly, mappings, outstanding data."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.times import MS, SECOND

from mptcplab.stack.mptcp.dsn import unwrap
from mptcplab.stack.mptcp.mapping import Mapping, MappingTable
from mptcplab.stack.mptcp.outstanding import Outstanding, RangeSet
from mptcplab.stack.mptcp.send_buffer import SendBuffer
from mptcplab.stack.reassembly import Reassembly
from mptcplab.stack.tcp.rate_reduction import RateReduction
from mptcplab.stack.tcp.receiver import DELAYED_ACK_NS, MAX_QUICK_ACKS, Receiver
from mptcplab.stack.tcp.rtt import RttEstimator
from mptcplab.stack.tcp.sent import Sent, SentQueue
from mptcplab.stack.tcp.state import CLOSED, TRANSITIONS, Change, State, next_state
from mptcplab.stack.tcp.timers import Timers
from mptcplab.stack.tcp.timestamps import Timestamps
from mptcplab.wire.segment import ACK, Segment


def test_every_state_can_be_left_and_only_listed_changes_happen() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.TIME_WAIT}
    assert next_state(State.TIME_WAIT, Change.ENDED) is CLOSED
    with pytest.raises(KeyError):
        next_state(State.TIME_WAIT, Change.FIN)


def test_rto_follows_rfc_6298_with_the_minimum_on_the_variation() -> None:
    rtt = RttEstimator()
    assert rtt.rto_ns == SECOND
    rtt.add_sample(100 * MS, 0)
    assert rtt.srtt_ns == 100 * MS
    assert rtt.rttvar_ns == 50 * MS
    assert rtt.rto_ns == 300 * MS
    rtt.add_sample(180 * MS, 1)
    assert rtt.srtt_ns == 110 * MS
    assert rtt.rttvar_ns == 57_500_000
    rtt.back_off()
    assert rtt.rto_ns == 2 * 340 * MS
    rtt.reset_backoff()
    assert rtt.rto_ns == 340 * MS


def test_acks_that_come_as_one_are_as_many_samples() -> None:
    one_by_one, together = RttEstimator(), RttEstimator()
    for start, step, count in ((10 * MS, MS, 1), (20 * MS, 2 * MS, 9), (80 * MS, -MS, 24)):
        for number in range(count):
            one_by_one.add_sample(start + number * step, number)
        together.add_samples(start, start + (count - 1) * step, count, count)
        assert together.srtt_ns == one_by_one.srtt_ns
        assert together.rttvar_ns == one_by_one.rttvar_ns
        assert together.rto_ns == one_by_one.rto_ns
        assert together.min_rtt_ns == one_by_one.min_rtt_ns


def test_of_very_many_samples_the_last_ones_count() -> None:
    one_by_one, together = RttEstimator(), RttEstimator()
    for number in range(1000):
        one_by_one.add_sample((100 + number) * MS, number)
    together.add_sample(100 * MS, 0)
    together.add_samples(101 * MS, 1099 * MS, 999, 999)
    assert abs(int(together.srtt_ns - one_by_one.srtt_ns)) < one_by_one.srtt_ns // 50


def test_backoff_stops_at_the_maximum() -> None:
    rtt = RttEstimator(max_rto_ns=5 * SECOND)
    for _ in range(10):
        rtt.back_off()
    assert rtt.rto_ns == 5 * SECOND


def queue_of(*edges: int) -> SentQueue:
    queue = SentQueue()
    for number, (seq, end) in enumerate(pairwise(edges)):
        queue.append(Sent(seq, end, bytes(end - seq), number))
    return queue


def test_acknowledgment_inside_a_train_cuts_it() -> None:
    queue = queue_of(1, 1001, 2001)
    queue.acknowledge(301)
    assert queue.delivered_bytes == 300
    assert queue.in_flight_bytes() == 1700
    first = queue.first()
    assert first is not None
    assert (first.seq, first.end, len(first.payload or b"")) == (301, 1001, 700)


def test_sack_inside_a_train_splits_it_and_the_pipe_shrinks() -> None:
    queue = queue_of(1, 1001, 2001)
    queue.sack(301, 601)
    assert queue.in_flight_bytes() == 1700
    assert [(r.seq, r.end, r.sacked) for r in queue.records()] == [
        (1, 301, False),
        (301, 601, True),
        (601, 1001, False),
        (1001, 2001, False),
    ]
    may_be_lost = []
    record = queue.oldest
    while record is not None:
        may_be_lost.append(record.end)
        record = record.newer
    assert may_be_lost == [301, 1001, 2001]


def test_lost_then_resent_then_acknowledged() -> None:
    queue = queue_of(1, 1001, 2001)
    queue.sack(1001, 2001)
    head = queue.first()
    assert head is not None
    assert queue.mark_lost(head) == 1000
    assert queue.in_flight_bytes() == 0
    assert queue.next_lost() is head
    queue.note_resent(head, 9)
    assert queue.in_flight_bytes() == 1000
    assert queue.next_lost() is None
    queue.acknowledge(2001)
    assert queue.in_flight_bytes() == 0
    assert len(queue) == 0


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400), st.integers(1, 120)), max_size=60)
)
def test_counts_always_match_the_records(steps: list[tuple[int, int, int]]) -> None:
    queue = queue_of(*range(1, 400, 40))
    end = 361
    una = 1
    for number, (kind, left, size) in enumerate(steps, 100):
        if kind == 0 and left > una:
            una = min(left, end)
            queue.acknowledge(una)
        elif kind == 1:
            low, high = max(left, una), min(left + size, end)
            if low < high:
                queue.sack(low, high)
        elif kind == 2:
            for record in queue.records():
                if record.seq <= left < record.end:
                    queue.mark_lost(record)
        else:
            lost = queue.next_lost()
            if lost is not None:
                queue.note_resent(lost, number)
        records = queue.records()
        assert queue.out_bytes == sum(r.end - r.seq for r in records) == end - una
        assert queue.sacked_bytes == sum(r.end - r.seq for r in records if r.sacked)
        assert queue.lost_bytes == sum(r.end - r.seq for r in records if r.lost)
        assert queue.retransmitted_bytes == sum(r.end - r.seq for r in records if r.retransmitted)


def test_delayed_ack_waits_for_a_second_segment_or_the_timer() -> None:
    timers = Timers()
    receiver = Receiver(timers, 0)
    receiver.open_at(100)
    receiver.mss_bytes = 1000
    use_up_quick_acks(receiver)
    assert receiver.accept(1, 1001, None, 5) is None
    assert not receiver.ack_now
    assert timers.delayed_ack_ns == 5 + DELAYED_ACK_NS
    receiver.accept(1001, 2001, None, 6)
    assert receiver.ack_now


def use_up_quick_acks(receiver: Receiver) -> None:
    for _ in range(MAX_QUICK_ACKS):
        receiver.ack_sent()


def test_the_first_segments_are_acknowledged_at_once() -> None:
    """Linux's quick ACKs: the sender's window is small."""
    receiver = Receiver(Timers(), 0)
    receiver.open_at(100)
    receiver.mss_bytes = 1000
    for number in range(MAX_QUICK_ACKS):
        receiver.note_train(1, 0, SECOND, number)
        receiver.accept(1 + number, 2 + number, None, number)
        assert receiver.ack_now
        receiver.ack_sent()
    receiver.note_train(1, 0, SECOND, 20)
    receiver.accept(17, 18, None, 20)
    assert not receiver.ack_now
    receiver.ack_sent()
    receiver.note_train(1, 0, SECOND, 2 * SECOND)  # after a pause the sender begins anew
    receiver.accept(18, 19, None, 2 * SECOND)
    assert receiver.ack_now


def test_who_answers_with_data_does_not_acknowledge_at_once() -> None:
    receiver = Receiver(Timers(), 0)
    receiver.open_at(100)
    receiver.note_train(1, 0, SECOND, 1)
    receiver.note_data_sent(2)
    receiver.accept(1, 2, None, 3)
    assert not receiver.ack_now


def with_text(size: int, *, answered: bool = False) -> tuple[Receiver, Timers]:
    """Return a receiver of so much text whose quick ACKs are used up."""
    timers = Timers()
    receiver = Receiver(timers, 0)
    receiver.open_at(0)
    receiver.mss_bytes = 1000
    use_up_quick_acks(receiver)
    if answered:
        receiver.note_train(1, 0, SECOND, 1)
        receiver.note_data_sent(2)
    receiver.accept(1, 1 + size, None, 3)
    assert not receiver.ack_now
    return receiver, timers


def test_more_than_a_segment_is_acknowledged_at_once() -> None:
    """__tcp_ack_snd_check: the second need not be full."""
    receiver, _ = with_text(1000)
    receiver.accept(1001, 1002, None, 4)
    assert receiver.ack_now


def test_what_is_no_full_segment_is_acknowledged_once_read() -> None:
    """tcp_cleanup_rbuf: its sender may wait, unless we answer with data."""
    assert with_text(999)[0].note_all_read()
    assert not with_text(1000)[0].note_all_read()
    receiver, _ = with_text(10, answered=True)
    assert not receiver.note_all_read()
    receiver.accept(11, 21, None, 4)
    assert receiver.note_all_read()


def test_data_that_come_again_and_a_late_ack_end_the_wait_for_answers() -> None:
    """tcp_enter_quickack_mode and tcp_delack_timer_handler."""
    receiver, _ = with_text(10, answered=True)
    receiver.accept(1, 11, None, 4)
    receiver.ack_sent()
    receiver.accept(11, 21, None, 5)
    assert receiver.ack_now
    receiver, _ = with_text(10, answered=True)
    receiver.note_delayed_ack()
    receiver.ack_sent()
    receiver.accept(11, 21, None, 5)
    assert not receiver.ack_now
    assert receiver.note_all_read()


def test_while_the_window_grows_every_segment_is_acknowledged() -> None:
    """tcp_grow_window: two segments larger with each that comes."""
    receiver, _ = with_text(1000)
    receiver.ack_sent()
    receiver.note_window_growth(4000)
    for start in (1001, 2001, 3001):
        receiver.note_train(1, 0, SECOND, 4)
        receiver.accept(start, start + 1000, None, 4)
        assert receiver.ack_now == (start < 3001)
        receiver.ack_sent()


def test_growth_keeps_what_is_left_of_the_quick_acks() -> None:
    """tcp_grow_window sets the lowest bit of their number, so that an even one stays."""
    receiver = Receiver(Timers(), 0)
    receiver.open_at(0)
    receiver.mss_bytes = 1000
    receiver.note_window_growth(3 * 2000)
    at_once = 0
    for number in range(40):
        receiver.note_train(1, 0, SECOND, number)
        receiver.accept(1 + 1000 * number, 1001 + 1000 * number, None, number)
        if not receiver.ack_now:
            break
        at_once += 1
        receiver.ack_sent()
    assert at_once == MAX_QUICK_ACKS + 3


def test_a_full_segment_with_psh_is_acknowledged_once_read() -> None:
    """tcp_measure_rcv_mss: it is likely the end of a write."""
    receiver, _ = with_text(1000)
    receiver.ack_sent()
    receiver.note_train(1, 0, SECOND, 4, True)
    receiver.accept(1001, 2001, None, 4)
    assert not receiver.ack_now
    assert receiver.note_all_read()


def test_the_last_of_an_odd_train_with_psh_is_acknowledged_alone() -> None:
    receiver = Receiver(Timers(), 0)
    receiver.open_at(0)
    use_up_quick_acks(receiver)
    receiver.note_train(11, 1000, SECOND, 5, True)
    receiver.accept(1, 11_001, None, 5)
    ack = Segment(b"", 1, b"", 2, flags=ACK)
    receiver.make_ack_train(ack)
    assert ack.packets == 6


@pytest.mark.parametrize(
    ("coalesce_ns", "packets", "spread_ns", "count", "ack_spread_ns"),
    [
        (0, 1, 0, 1, 0),
        (0, 11, 1000, 5, 900),  # every second packet: the first ACK after the second
        (100, 11, 100, 1, 0),  # one hand-over
        (100, 11, 1000, 5, 900),  # slow: two packets come in twice the time
        (1000, 101, 5000, 5, 4050),  # twenty at a time
    ],
)
def test_the_acks_of_a_train(
    coalesce_ns: int, packets: int, spread_ns: int, count: int, ack_spread_ns: int
) -> None:
    receiver = Receiver(Timers(), coalesce_ns)
    receiver.open_at(0)
    use_up_quick_acks(receiver)
    receiver.note_train(packets, spread_ns, SECOND, 5)
    receiver.accept(1, 1 + packets * 1000, None, 5)
    ack = Segment(b"", 1, b"", 2, flags=ACK)
    receiver.make_ack_train(ack)
    assert ack.packets == count
    assert ack.spread_ns == ack_spread_ns
    assert ack.ack_step_bytes == (packets * 1000 // count if count > 1 else 0)


def test_out_of_order_every_packet_is_acknowledged() -> None:
    receiver = Receiver(Timers(), 0)
    receiver.open_at(0)
    receiver.note_train(10, 900, SECOND, 5)
    receiver.accept(1001, 11_001, None, 5)
    ack = Segment(b"", 1, b"", 2, flags=ACK)
    receiver.make_ack_train(ack)
    assert (ack.packets, ack.ack_step_bytes, ack.spread_ns) == (10, 0, 900)


def test_a_delivery_rate_is_of_the_slower_of_sending_and_acknowledging() -> None:
    """tcp_rate_gen: ACKs that come together are no faster path."""
    queue = SentQueue()
    queue.rate.enabled = True
    for number in range(10):
        queue.append(Sent(1 + number * 1000, 1001 + number * 1000, None, number * MS))
    sample = queue.rate.sample
    queue.begin_ack()
    queue.acknowledge(1001)
    queue.rate.end_ack(20 * MS, 20 * MS)
    assert (sample.delivered_bytes, sample.interval_ns) == (1000, 20 * MS)
    queue.append(Sent(10_001, 11_001, None, 20 * MS))
    queue.begin_ack()
    queue.acknowledge(10_001)  # all at once
    queue.rate.end_ack(20 * MS, 29 * MS)
    assert (sample.delivered_bytes, sample.interval_ns) == (10_000, 29 * MS)
    queue.rate.limit(queue.in_flight_bytes())
    queue.append(Sent(11_001, 12_001, None, 30 * MS))
    queue.begin_ack()
    queue.acknowledge(11_001)
    queue.rate.end_ack(20 * MS, 40 * MS)
    assert (sample.delivered_bytes, sample.interval_ns) == (10_000, 20 * MS)
    before = sample.app_limited
    queue.begin_ack()
    queue.acknowledge(12_001)
    queue.rate.end_ack(30 * MS, 41 * MS)
    assert (before, sample.app_limited) == (False, True)
    assert sample.interval_ns == -1, "faster than the least round trip"


def test_sack_blocks_newest_first_and_duplicates_reported() -> None:
    receiver = Receiver(Timers(), 0)
    receiver.open_at(0)
    receiver.accept(101, 201, None, 0)
    receiver.accept(301, 401, None, 0)
    assert receiver.sack_blocks(3) == ((301, 401), (101, 201))
    receiver.accept(101, 201, None, 0)
    assert receiver.sack_blocks(3)[0] == (101, 201)
    ready = receiver.accept(1, 101, None, 0)
    assert ready is not None
    assert [(start, end) for start, end, _ in ready] == [(1, 101), (101, 201)]
    assert receiver.sack_blocks(3) == ((301, 401),)


def test_a_receiver_measures_the_round_trip_by_echoes_of_full_segments() -> None:
    """A shorter one counts at once, longer ones by an eighth; an echo counts once."""
    timestamps = Timestamps(enabled=True, offset=0)
    segment = Segment(b"", 1, b"", 2, ts_val=1, ts_ecr=100)
    samples = []
    for echo, now_ms in ((100, 160), (100, 400), (180, 200), (190, 370)):
        segment.ts_ecr = echo
        timestamps.measure(segment, now_ms * MS)
        samples.append(timestamps.round_trip_ns // MS)
    assert samples == [60, 60, 20, 40]


def test_paws() -> None:
    timestamps = Timestamps(enabled=True, offset=0)
    timestamps.note(1000, 0)
    assert timestamps.paws_rejects(999, 1)
    assert not timestamps.paws_rejects(1000, 1)
    assert not timestamps.paws_rejects(999, 25 * 86_400 * SECOND)


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 80)), max_size=60),
)
def test_reassembly_returns_every_byte_once(pieces: list[tuple[int, int]]) -> None:
    content = bytes(index % 251 for index in range(400))
    reassembly = Reassembly()
    covered: set[int] = set()
    for start, size in pieces:
        added = reassembly.insert(start, start + size, content[start : start + size])
        fresh = set(range(start, start + size)) - covered
        assert added == len(fresh)
        covered |= fresh
        assert reassembly.held_bytes == len(covered)
    position = 0
    out = b""
    for start, end, payload in reassembly.take_from(0):
        assert start == position
        assert payload is not None
        assert len(payload) == end - start
        out += payload
        position = end
    assert out == content[:position]
    assert position not in covered


def test_mapping_table_takes_repetitions_and_refuses_contradictions() -> None:
    table = MappingTable()
    assert table.add(Mapping(1, 101, 0, -1, False))
    assert table.add(Mapping(1, 101, 0, -1, False))
    assert len(table) == 1
    assert table.add(Mapping(101, 201, 500, -1, False))
    assert not table.add(Mapping(51, 151, 7, -1, False))
    found = table.find(150)
    assert found is not None
    assert found.offset == 500
    assert table.find(201) is None


def test_outstanding_pieces_split_by_carrier() -> None:
    pieces = Outstanding()
    pieces.append(0, 100, 1)
    pieces.append(100, 200, 1)
    pieces.append(200, 300, 2)
    pieces.carry(50, 250, 2)
    found = [pieces.at(offset) for offset in (0, 50, 199, 200, 299)]
    assert [piece.carriers for piece in found if piece is not None] == [1, 3, 3, 2, 2]
    pieces.release(60)
    head = pieces.head()
    assert head is not None
    assert (head.start, head.end, head.carriers) == (60, 200, 3)
    pieces.drop_carrier(2)
    assert head.carriers == 1


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.integers(1, 30)), max_size=40))
def test_range_set(steps: list[tuple[bool, int, int]]) -> None:
    ranges = RangeSet()
    model: set[int] = set()
    for adding, start, size in steps:
        if adding:
            ranges.add(start, start + size)
            model |= set(range(start, start + size))
        else:
            ranges.remove(start, start + size)
            model -= set(range(start, start + size))
        assert bool(ranges) is bool(model)
        if model:
            first = ranges.first()
            assert first[0] == min(model)
            assert first[1] not in model


def test_send_buffer_gives_content_by_offset_until_released() -> None:
    buffer = SendBuffer()
    buffer.append(b"hello ")
    buffer.append(b"world")
    buffer.release(3)
    assert buffer.content(3, 8) == b"lo wo"
    assert buffer.held_bytes() == 8
    with pytest.raises(ValueError, match="lengths"):
        buffer.append_length(3)


@given(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 1 << 40),
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.booleans(),
)
def test_data_sequence_numbers_wrap_at_32_and_at_64_bits(
    base: int, near: int, distance: int, is_8: bool
) -> None:
    mask = (1 << 64) - 1 if is_8 else (1 << 32) - 1
    number = (base + near + distance) & mask
    assert unwrap(number, base, near, is_8) == near + distance


def test_recovery_sends_in_proportion_to_what_arrives() -> None:
    """RFC 6937: a window of 20 comes down to 10, a segment out for every two that arrive."""
    reduction = RateReduction()
    reduction.begin(target_bytes=10, flight_bytes=20)
    pipe = 17  # three were lost
    sent = 0
    for arrived in range(1, 15):
        pipe -= 1
        room = reduction.window_bytes(pipe, 1, safe=False, mss=1) - pipe
        assert room in (0, 1)
        reduction.note_sent(room)
        pipe += room
        sent += room
        if pipe > 10:
            assert sent == (arrived + 1) // 2
    assert pipe == 10


def test_recovery_after_many_losses_sends_no_more_than_arrives() -> None:
    """The conservative bound, and a segment more while progress shows no new loss."""
    reduction = RateReduction()
    reduction.begin(target_bytes=50, flight_bytes=100)
    assert reduction.window_bytes(20, 3, safe=False, mss=1) == 23
    reduction.note_sent(3)
    assert reduction.window_bytes(20, 2, safe=True, mss=1) == 23
    reduction.note_sent(3)
    assert reduction.window_bytes(49, 5, safe=True, mss=1) == 50


def test_recovery_keeps_a_window_of_a_segment() -> None:
    reduction = RateReduction()
    reduction.begin(target_bytes=20, flight_bytes=40)
    assert reduction.window_bytes(0, 0, safe=False, mss=10) == 10
