"""How long a train may be, in flows of many rates and round trips, and when its packets leave."""

from __future__ import annotations

from dataclasses import replace

from tests.times import MS, US

from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion.base import CongestionGroup
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.mptcp.trains import Cause, CommonLimits, Trains
from mptcplab.stack.path_managers import InitialOnly
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt
from mptcplab.stack.tcp.rtt import RttEstimator
from mptcplab.stack.tcp.sender import Sender
from mptcplab.stack.tcp.timers import Timers
from mptcplab.wire.segment import Segment

MSS = 1400
MOST = 524_280
AMPLE = 1 << 30
OFFLOAD = StackConfig(NewReno, LowestRtt, InitialOnly)
PACKETS = replace(OFFLOAD, offload=False)


class Flow:
    """A subflow in congestion avoidance, with so much of its window in flight."""

    def __init__(self, config: StackConfig, cwnd: int, flight: int, rtt_ns: int) -> None:
        self.now_ns = 100 * MS
        rtt = RttEstimator()
        rtt.add_sample(rtt_ns, 1)
        control = NewReno(MSS, CongestionGroup())
        control.cwnd_bytes = control.ssthresh_bytes = cwnd
        self.sender = Sender(0, rtt, control, Timers())
        self.sender.snd_nxt = 1
        self.flight = flight
        if flight:
            self.sender.record_new(1 + flight, None, 0, self.now_ns - rtt_ns)
        self.cause = Cause()
        self.trains = Trains(config, self.cause)

    def room(self, window: int = AMPLE, largest: int = AMPLE, buffer: int = AMPLE) -> int:
        limits = CommonLimits()
        limits.window_bytes = window
        limits.largest_window_bytes = largest
        limits.buffer_bytes = buffer
        limits.train_bytes = MOST
        limits.compare(self.sender.congestion.group)
        return self.trains.room_bytes(self.sender, self.flight, limits, self.now_ns)

    def send(self, packets: int, room: int = 0, acked: int = 0) -> Segment:
        train = Segment(b"", 1, b"", 2, payload_bytes=packets * MSS, segment_size_bytes=MSS)
        self.trains.note_sent(train, room * MSS, acked * MSS, self.now_ns)
        return train


def test_without_offload_a_packet_leaves_as_soon_as_it_may() -> None:
    flow = Flow(PACKETS, 100 * MSS, 99 * MSS, MS)
    assert flow.room() == MSS
    assert flow.send(1).piece_packets == 0


def test_a_burst_is_what_leaves_in_a_millisecond() -> None:
    assert Flow(OFFLOAD, 100_800, 0, 10 * MS).room() == 12_096 // MSS * MSS  # 1.2 times 10 MB/s


def test_a_burst_has_two_segments_at_least() -> None:
    assert Flow(OFFLOAD, 4 * MSS, 0, 100 * MS).room() == 2 * MSS


def test_bursts_are_longer_on_short_paths() -> None:
    """Linux's tcp_tso_rtt_log: the largest burst more below 512 us, half of it below 1,024 us."""
    long = Flow(OFFLOAD, 10 * MSS, 0, 10 * MS).room()
    assert Flow(OFFLOAD, 10 * MSS, 0, 700 * US).room() > long + 5 * MSS
    assert Flow(OFFLOAD, 100 * MSS, 0, 400 * US).room() == 65_455 // MSS * MSS


def test_a_burst_waits_for_a_third_of_the_window_while_acks_come() -> None:
    flow = Flow(OFFLOAD, 30 * MSS, 21 * MSS, 700 * US)
    flow.sender.last_send_ns = flow.now_ns - 500 * US
    assert flow.room() == 0
    flow.flight = 20 * MSS
    assert flow.room() == 10 * MSS


def test_a_burst_is_not_held_back_when_nothing_left_for_a_millisecond() -> None:
    """Linux's tcp_tso_should_defer."""
    flow = Flow(OFFLOAD, 30 * MSS, 25 * MSS, 700 * US)
    flow.sender.last_send_ns = flow.now_ns - 1_100 * US
    assert flow.room() == 5 * MSS


def test_a_train_is_a_small_part_of_the_window() -> None:
    config = replace(PACKETS, trains_per_window=10)
    assert Flow(config, 100 * MSS, 0, 10 * MS).room() == 13 * MSS
    assert Flow(config, 100 * MSS, 88 * MSS, 10 * MS).room() == 12 * MSS
    assert Flow(config, 100 * MSS, 0, 10 * MS).room(largest=50 * MSS) == 6 * MSS
    assert Flow(config, 100 * MSS, 0, 10 * MS).room(buffer=50 * MSS) == 6 * MSS
    assert Flow(config, 40 * MSS, 0, 10 * MS).room() == 5 * MSS
    assert Flow(config, 39 * MSS, 0, 10 * MS).room() == MSS  # one ACK would answer three packets
    assert Flow(config, 1_000_000 * MSS, 0, 10 * MS).room() <= MOST


def test_a_train_takes_no_longer_than_the_least_round_trip() -> None:
    """Else it hides what a receiver sees in one: an autotuned buffer takes it for more."""
    flow = Flow(replace(PACKETS, trains_per_window=10), 100 * MSS, 0, 100 * MS)
    flow.sender.rtt.min_rtt_ns = 10 * MS
    assert flow.room() == 13 * MSS
    flow.sender.rtt.min_rtt_ns = 5 * MS
    assert flow.room() == 6 * MSS  # the window lasts 20 of them; and a third more


def test_a_window_of_which_little_is_in_flight_is_not_what_a_train_is_a_part_of() -> None:
    """How fast ACKs come says what the path carries within its least round trip."""
    flow = Flow(replace(PACKETS, trains_per_window=8), 400 * MSS, 0, 100 * MS)
    assert flow.room() > 50 * MSS
    rate = flow.sender.queue.rate
    rate.note_acks(20 * MSS, 200 * MS)
    assert flow.room() == 13 * MSS  # a packet every 10 ms; and a third more
    rate.note_acks(2 * MSS, 200 * MS)
    assert flow.room() == MSS
    for _ in range(1_000):
        rate.note_acks(2 * MSS, 0)
    assert flow.room() > 4 * MSS  # it tries again


def test_a_burst_travels_whole_where_queues_are_deep() -> None:
    """What it tells late is little beside what waits; on a short queue it would be much."""
    config = replace(OFFLOAD, trains_per_window=8)
    flow = Flow(config, 400 * MSS, 0, 4 * MS)
    flow.sender.rtt.min_rtt_ns = 100 * US
    assert flow.room() == 46 * MSS  # a burst, though the least round trip holds ten packets
    assert flow.send(46).piece_packets == 46
    few = Flow(config, 300 * MSS, 0, 4 * MS)  # of these it would be more than an eighth
    few.sender.rtt.min_rtt_ns = 100 * US
    assert few.room() == 46 * MSS
    assert few.send(46).piece_packets < 46


def test_where_subflows_share_a_window_a_train_is_a_small_part_of_the_least_of_theirs() -> None:
    flow = Flow(replace(PACKETS, trains_per_window=10), 100 * MSS, 0, 10 * MS)
    control = flow.sender.congestion
    other = NewReno(MSS, control.group)
    other.cwnd_bytes = 50 * MSS
    control.rounds = 1
    assert flow.room(largest=110 * MSS) == 13 * MSS  # it carries nothing yet
    other.rounds = 1
    assert flow.room(largest=150 * MSS) == 13 * MSS
    assert flow.room(largest=110 * MSS) == 6 * MSS
    assert flow.room(buffer=110 * MSS) == 6 * MSS


def test_what_waits_for_a_longer_train_leaves_when_it_would_have() -> None:
    config = replace(PACKETS, trains_per_window=10)
    flow = Flow(config, 100 * MSS, 95 * MSS, 10 * MS)
    flow.cause.note(300 * US, flow.now_ns)
    assert flow.room() == 0  # five of ten packets: the next acknowledgments will bring the others
    flow.now_ns += 500 * US
    flow.cause.note(300 * US, flow.now_ns)
    flow.flight = 90 * MSS
    assert flow.room() == 10 * MSS
    train = flow.send(10, room=10, acked=5)
    assert (train.spread_ns, train.late_ns) == (800 * US, 0)
    assert train.piece_packets == 13


def test_a_train_leaves_over_the_time_in_which_what_it_answers_came() -> None:
    flow = Flow(replace(PACKETS, trains_per_window=10), 100 * MSS, 90 * MSS, 10 * MS)
    flow.cause.note(300 * US, flow.now_ns)
    assert flow.room() == 10 * MSS
    assert flow.send(10, room=10, acked=10).spread_ns == 300 * US
    flow.now_ns += 1
    assert flow.send(10, room=10, acked=10).spread_ns == 0  # nothing came


def test_the_packets_of_a_burst_leave_at_once() -> None:
    flow = Flow(OFFLOAD, 30 * MSS, 0, 700 * US)
    flow.cause.note(300 * US, flow.now_ns)
    assert flow.room() == 30 * MSS
    assert flow.send(30, room=30, acked=30).spread_ns == 0


def test_a_burst_leaves_as_soon_as_there_is_room_for_it() -> None:
    flow = Flow(OFFLOAD, 100 * MSS, 40 * MSS, 10 * MS)
    flow.cause.note(300 * US, flow.now_ns)
    flow.room()
    # Thirty packets were acknowledged in 300 us, and ten more than were needed by the end.
    assert flow.send(8, room=18, acked=30).late_ns == 100 * US
    assert flow.send(8, room=8, acked=30).late_ns == 0


def test_where_the_peer_does_not_read_a_whole_train_is_waited_for() -> None:
    flow = Flow(replace(PACKETS, trains_per_window=10), 100 * MSS, 50 * MSS, 10 * MS)
    flow.room(window=40 * MSS, largest=100 * MSS)
    assert flow.trains.worthwhile_bytes == 10 * MSS


def test_of_several_trains_each_leaves_in_its_turn() -> None:
    flow = Flow(replace(PACKETS, trains_per_window=10), 100 * MSS, 60 * MSS, 10 * MS)
    flow.cause.note(400 * US, flow.now_ns)
    flow.room()
    first = flow.send(10, room=40, acked=40)
    assert (first.spread_ns, first.late_ns) == (100 * US, 300 * US)
    second = flow.send(10, room=30, acked=40)
    assert (second.spread_ns, second.late_ns) == (100 * US, 200 * US)


def test_a_train_of_several_bursts_holds_whole_ones() -> None:
    flow = Flow(replace(OFFLOAD, trains_per_window=8), 800 * MSS, 0, 10 * MS)
    assert flow.room() == 46 * MSS  # one, where the queue is short: it sees the gap between two
    flow.sender.rtt.min_rtt_ns = 5 * MS
    flow.cause.note(400 * US, flow.now_ns)
    assert flow.room() == 92 * MSS  # an eighth is 100, a burst 46 packets
    train = flow.send(92, room=92, acked=92)
    assert (train.burst_packets, train.spread_ns, train.late_ns) == (46, 400 * US, 0)
