"""Every scheduler: who gets what is pending, backups, reinjections, windows and waiting."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.times import MS

from mptcplab.stack.congestion.base import CongestionGroup
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.schedulers import SCHEDULERS
from mptcplab.stack.schedulers.base import (
    Allotment,
    ConnectionView,
    Scheduler,
    SubflowView,
    eligible_subflows,
    sendable_bytes,
)
from mptcplab.stack.schedulers.blest import Blest
from mptcplab.stack.schedulers.ecf import Ecf
from mptcplab.stack.schedulers.linux_default import LinuxDefault, pacing_rate
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt
from mptcplab.stack.schedulers.redundant import Redundant
from mptcplab.stack.schedulers.round_robin import RoundRobin

MSS = 1000


def a_subflow(number: int, rtt_ms: int = 10, cwnd: int = 10, flight: int = 0) -> SubflowView:
    control = NewReno(MSS, CongestionGroup())
    control.cwnd_bytes = cwnd * MSS
    control.ssthresh_bytes = cwnd * MSS
    control.srtt_ns = rtt_ms * MS
    subflow = SubflowView(number, control)
    subflow.in_flight_bytes = subflow.unacked_bytes = flight * MSS
    subflow.queue_room_bytes = subflow.train_room_bytes = 1 << 30
    return subflow


def a_view(*subflows: SubflowView, unsent: int = 1000, window: int = 1 << 20) -> ConnectionView:
    """A connection with ``unsent`` segments written and a window of ``window`` segments."""
    view = ConnectionView()
    view.subflows = list(subflows)
    view.written_offset = unsent * MSS
    view.pending_end_offset = unsent * MSS
    view.window_end_offset = window * MSS
    return view


@pytest.mark.parametrize(("room", "sent"), [(30, 0), (60, 60)])
def test_a_window_about_to_open_further_is_not_used_in_crumbs(room: int, sent: int) -> None:
    subflow = a_subflow(0, cwnd=1000)
    subflow.worthwhile_bytes = 50 * MSS
    allotment = LowestRtt().next_allotment(a_view(subflow, window=room))
    assert (allotment.end_offset if allotment else 0) == sent * MSS


def test_the_end_of_what_was_written_does_not_wait_for_the_window() -> None:
    subflow = a_subflow(0, cwnd=1000)
    subflow.worthwhile_bytes = 50 * MSS
    allotment = LowestRtt().next_allotment(a_view(subflow, unsent=30))
    assert allotment is not None
    assert allotment.end_offset == 30 * MSS


def test_of_round_trips_below_a_tick_the_first_has_precedence() -> None:
    view = a_view(a_subflow(0, rtt_ms=3), a_subflow(1, rtt_ms=1), a_subflow(2, rtt_ms=5))
    chosen = LowestRtt(shortest_ns=4 * MS).next_allotment(view)
    assert chosen is not None
    assert chosen.subflow.subflow_id == 0
    exact = LowestRtt().next_allotment(view)
    assert exact is not None
    assert exact.subflow.subflow_id == 1


def carry_out(view: ConnectionView, order: Allotment) -> None:
    """Do what the connection does with an order."""
    order.subflow.in_flight_bytes += order.end_offset - order.offset
    if order.end_offset > view.sent_offset:
        view.sent_offset = order.end_offset
    view.pending_offset = view.sent_offset


def all_orders(scheduler: Scheduler, view: ConnectionView) -> list[tuple[int, int, int]]:
    """Ask until the answer is None; return (subflow, first segment, end)."""
    orders = []
    while (order := scheduler.next_allotment(view)) is not None:
        carry_out(view, order)
        orders.append((order.subflow.subflow_id, order.offset // MSS, order.end_offset // MSS))
        assert len(orders) < 1000
    return orders


# What all share


@pytest.mark.parametrize("name", SCHEDULERS)
def test_nothing_is_sent_without_data_window_or_subflow(name: str) -> None:
    assert SCHEDULERS[name]().next_allotment(a_view(a_subflow(0), unsent=0)) is None
    assert SCHEDULERS[name]().next_allotment(a_view(a_subflow(0), window=0)) is None
    assert SCHEDULERS[name]().next_allotment(a_view()) is None


@pytest.mark.parametrize("name", SCHEDULERS)
def test_one_subflow_gets_everything_up_to_the_window(name: str) -> None:
    orders = all_orders(SCHEDULERS[name](), a_view(a_subflow(0, cwnd=500), window=300))
    assert [number for number, _, _ in orders] == [0] * len(orders)
    assert orders[0][1] == 0
    assert orders[-1][2] == 300
    assert all(one[2] == two[1] for one, two in pairwise(orders))


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "linux-default"])
def test_congestion_windows_are_filled_and_kept(name: str) -> None:
    first, second = a_subflow(0, cwnd=70), a_subflow(1, cwnd=90)
    all_orders(SCHEDULERS[name](), a_view(first, second))
    assert first.in_flight_bytes == 70 * MSS
    assert second.in_flight_bytes == 90 * MSS


@pytest.mark.parametrize("name", SCHEDULERS)
def test_backups_are_used_only_while_no_other_subflow_works(name: str) -> None:
    regular, backup = a_subflow(0, rtt_ms=90, cwnd=5), a_subflow(1, rtt_ms=1)
    backup.backup = True
    view = a_view(regular, backup)
    all_orders(SCHEDULERS[name](), view)
    assert backup.in_flight_bytes == 0
    regular.stale = True
    view.pending_end_offset += 10 * MSS
    all_orders(SCHEDULERS[name](), view)
    assert backup.in_flight_bytes > 0


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_stale_subflow_gets_nothing(name: str) -> None:
    working, stale = a_subflow(0, rtt_ms=90), a_subflow(1, rtt_ms=1)
    stale.stale = True
    all_orders(SCHEDULERS[name](), a_view(working, stale))
    assert working.in_flight_bytes > 0
    assert stale.in_flight_bytes == 0


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "linux-default"])
def test_a_subflow_recovering_from_a_timeout_gets_nothing_new(name: str) -> None:
    subflow = a_subflow(0)
    subflow.timed_out = True
    assert SCHEDULERS[name]().next_allotment(a_view(subflow)) is None


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_reinjection_avoids_who_carried_it_and_ignores_the_window(name: str) -> None:
    carrier, other = a_subflow(0, rtt_ms=1), a_subflow(1, rtt_ms=90)
    view = a_view(carrier, other, window=20)
    view.sent_offset = view.acked_offset + 20 * MSS
    view.pending_offset, view.pending_end_offset = 3 * MSS, 7 * MSS
    view.pending_is_new = False
    view.pending_carriers = 1 << carrier.subflow_id
    order = SCHEDULERS[name]().next_allotment(view)
    assert order is not None
    assert (order.subflow, order.offset, order.end_offset) == (other, 3 * MSS, 7 * MSS)


def test_who_may_carry_a_reinjection() -> None:
    first, second, backup = a_subflow(0), a_subflow(1), a_subflow(2)
    backup.backup = True
    everyone = [first, second, backup]
    assert eligible_subflows(everyone, 0) == [first, second]
    assert eligible_subflows(everyone, 0b001) == [second]
    assert eligible_subflows(everyone, 0b011) == [first, second]
    first.timeouts, second.timeouts = 2, 1
    assert eligible_subflows(everyone, 0b011) == [first, second], "the second may still live"
    second.timeouts = 2
    assert eligible_subflows(everyone, 0b011) == [backup]
    assert eligible_subflows(everyone, 0b111) == [first, second]
    first.stale = second.stale = True
    assert eligible_subflows(everyone, 0b011) == [backup]
    backup.stale = True
    assert eligible_subflows(everyone, 0) == []


def test_only_the_end_of_the_data_makes_a_segment_that_is_not_full() -> None:
    subflow = a_subflow(0, cwnd=5)
    subflow.in_flight_bytes = 2500
    assert sendable_bytes(subflow, 10_000, 65535) == 2000
    assert sendable_bytes(subflow, 2400, 65535) == 2400
    assert sendable_bytes(subflow, 100, 65535) == 100
    subflow.in_flight_bytes = 4500
    assert sendable_bytes(subflow, 10_000, 65535) == 0
    assert sendable_bytes(subflow, 400, 65535) == 400
    subflow.in_flight_bytes = 6000
    assert sendable_bytes(subflow, 1, 65535) == 0
    big = a_subflow(1, cwnd=1000)
    assert sendable_bytes(big, 10**9, 65535) == 65000
    big.train_room_bytes = 1500
    assert sendable_bytes(big, 10**9, 65535) == 1000


# Lowest RTT


def test_lowest_rtt_fills_the_fastest_first() -> None:
    orders = all_orders(LowestRtt(), a_view(a_subflow(0, 20), a_subflow(1, 10), a_subflow(2, 30)))
    assert orders == [(1, 0, 10), (0, 10, 20), (2, 20, 30)]


def blocked_by(slow_rtt_ms: int, slow_cwnd: int = 40) -> tuple[ConnectionView, SubflowView]:
    """A window of 40 segments, all on the slow subflow 1; subflow 0 is fast and idle."""
    fast, slow = a_subflow(0, 10, cwnd=20), a_subflow(1, slow_rtt_ms, slow_cwnd, flight=40)
    view = a_view(fast, slow, window=40)
    view.now_ns = 5_000 * MS
    view.sent_offset = view.pending_offset = 40 * MSS
    view.head_end_offset = 6 * MSS
    view.head_carriers = 1 << slow.subflow_id
    return view, slow


def test_what_blocks_the_window_is_sent_again_on_the_fast_subflow() -> None:
    view, slow = blocked_by(100)
    order = LowestRtt(retransmits=True, penalises=False).next_allotment(view)
    assert order is not None
    assert (order.subflow.subflow_id, order.offset, order.end_offset) == (0, 0, 6 * MSS)
    assert slow.congestion.cwnd_bytes == 40 * MSS


def test_it_is_not_sent_twice_on_one_subflow() -> None:
    view, _ = blocked_by(100)
    view.head_carriers = 0b11
    assert LowestRtt().next_allotment(view) is None


def test_a_carrier_that_is_not_four_times_slower_is_waited_for() -> None:
    assert LowestRtt().next_allotment(blocked_by(40)[0]) is None
    assert LowestRtt().next_allotment(blocked_by(41)[0]) is not None
    assert LowestRtt().next_allotment(blocked_by(11, slow_cwnd=4)[0]) is not None


def test_the_carrier_is_penalised_once_per_round_trip_of_the_fast_subflow() -> None:
    view, slow = blocked_by(100)
    scheduler = LowestRtt(retransmits=False, penalises=True)
    for now_ms, segments in ((5000, 20), (5009, 20), (5010, 10), (5019, 10), (5020, 5)):
        view.now_ns = now_ms * MS
        assert scheduler.next_allotment(view) is None
        assert slow.congestion.cwnd_bytes == segments * MSS


def test_a_carrier_in_recovery_or_faster_is_not_penalised() -> None:
    view, slow = blocked_by(100)
    slow.in_recovery = True
    LowestRtt().next_allotment(view)
    assert slow.congestion.cwnd_bytes == 40 * MSS
    view, slow = blocked_by(10)
    LowestRtt().next_allotment(view)
    assert slow.congestion.cwnd_bytes == 40 * MSS


def test_plain_lowest_rtt_does_neither() -> None:
    view, slow = blocked_by(100)
    assert LowestRtt(retransmits=False, penalises=False).next_allotment(view) is None
    assert slow.congestion.cwnd_bytes == 40 * MSS


def test_a_full_send_buffer_is_unblocked_too() -> None:
    view, _ = blocked_by(100)
    view.pending_end_offset = view.pending_offset
    assert LowestRtt().next_allotment(view) is None
    view.send_buffer_full = True
    assert LowestRtt().next_allotment(view) is not None


# Round robin


def test_round_robin_deals_bursts_in_turn_and_skips_full_windows() -> None:
    view = a_view(a_subflow(0, cwnd=4), a_subflow(1, cwnd=2), a_subflow(2, cwnd=3))
    orders = all_orders(RoundRobin(burst_segments=1), view)
    assert [number for number, _, _ in orders] == [0, 1, 2, 0, 1, 2, 0, 2, 0]


def test_round_robin_without_filling_waits_for_whose_turn_it_is() -> None:
    view = a_view(a_subflow(0, cwnd=4), a_subflow(1, cwnd=2))
    orders = all_orders(RoundRobin(burst_segments=1, fills_windows=False), view)
    assert [number for number, _, _ in orders] == [0, 1, 0, 1, 0]


def test_round_robin_by_default_deals_trains() -> None:
    view = a_view(a_subflow(0, cwnd=200), a_subflow(1, cwnd=200), unsent=260)
    orders = all_orders(RoundRobin(), view)
    assert orders == [(0, 0, 65), (1, 65, 130), (0, 130, 195), (1, 195, 260)]


def test_round_robin_finishes_a_burst_that_the_window_cut() -> None:
    first, second = a_subflow(0, cwnd=2), a_subflow(1, cwnd=10)
    scheduler = RoundRobin(burst_segments=3, fills_windows=False)
    view = a_view(first, second)
    assert all_orders(scheduler, view) == [(0, 0, 2)]
    first.in_flight_bytes = 0
    assert all_orders(scheduler, view)[:2] == [(0, 2, 3), (1, 3, 6)]


# Redundant


def test_redundant_sends_everything_on_every_subflow() -> None:
    view = a_view(a_subflow(0, 20, cwnd=10), a_subflow(1, 10, cwnd=4), unsent=8)
    orders = all_orders(Redundant(), view)
    assert orders == [(1, 0, 4), (0, 0, 4), (0, 4, 8)]


def test_redundant_skips_what_was_acknowledged_meanwhile() -> None:
    slow = a_subflow(0, 20, cwnd=2)
    fast = a_subflow(1, 10, cwnd=8)
    scheduler, view = Redundant(), a_view(slow, fast, unsent=12)
    assert all_orders(scheduler, view) == [(1, 0, 8), (0, 0, 2)]
    view.acked_offset = 8 * MSS
    slow.in_flight_bytes = fast.in_flight_bytes = 0
    assert all_orders(scheduler, view) == [(1, 8, 12), (0, 8, 10)]
    scheduler.on_subflow_closed(1)


def test_redundant_does_not_repeat_a_probe_on_the_subflow_that_sent_it() -> None:
    scheduler, view = Redundant(), a_view(a_subflow(0, 20, cwnd=10), unsent=4)
    view.sent_offset = view.pending_offset = MSS  # a tail loss probe, which it did not order
    scheduler.on_probe(0, MSS)
    assert all_orders(scheduler, view) == [(0, 1, 4)]


def test_redundant_goes_back_with_what_counts_as_sent() -> None:
    scheduler, view = Redundant(), a_view(a_subflow(0, 20, cwnd=10), unsent=8)
    assert all_orders(scheduler, view) == [(0, 0, 8)]
    view.sent_offset = view.pending_offset = 2 * MSS  # what waits in a backlog is not sent
    view.subflows[0].in_flight_bytes = 2 * MSS
    assert all_orders(scheduler, view) == [(0, 2, 8)]


# BLEST


def blest_view(window: int) -> tuple[ConnectionView, SubflowView, SubflowView]:
    fast, slow = a_subflow(0, 10, cwnd=20, flight=20), a_subflow(1, 100, cwnd=40)
    return a_view(fast, slow, window=window), fast, slow


def test_blest_leaves_the_slow_subflow_idle_if_it_would_block_the_fast_one() -> None:
    # In 100 ms the fast subflow sends 100 / 10 + 1 = 11 rounds of max(20, 20 + 1) + 10 / 2
    # segments, times lambda = 1.2 (before it moves): 343; the slow one would hold 40.
    view, _, slow = blest_view(window=382)
    assert Blest().next_allotment(view) is None
    view, _, slow = blest_view(window=384)
    order = Blest().next_allotment(view)
    assert order is not None
    assert order.subflow is slow


def test_blest_grows_lambda_while_the_window_blocks_and_shrinks_it_else() -> None:
    view, _, slow = blest_view(window=1000)
    scheduler = Blest()
    scheduler.next_allotment(view)
    for _ in range(30):
        view.now_ns += 100 * MS
        scheduler.next_allotment(view)
    assert scheduler.scale == pytest.approx(1.0)
    for _ in range(30):
        view.now_ns += 100 * MS
        scheduler.on_window_blocked(view)
        scheduler.next_allotment(view)
    assert scheduler.scale == pytest.approx(1.3)
    scheduler.on_subflow_closed(slow.subflow_id)


def test_blest_doubles_per_round_for_a_fast_subflow_in_its_first_slow_start() -> None:
    view, fast, _ = blest_view(window=1 << 20)
    fast.congestion.ssthresh_bytes = NewReno(MSS, CongestionGroup()).ssthresh_bytes
    # 20 segments * (2^11 - 1) * 1.2 = 49,128 segments, and 40 on the slow subflow.
    view.window_end_offset = 49_100 * MSS
    assert Blest().next_allotment(view) is None
    view.window_end_offset = 49_200 * MSS
    assert Blest().next_allotment(view) is not None


# ECF


def ecf_orders(unsent: int, slow_rtt_ms: int = 40) -> SubflowView | None:
    fast, slow = a_subflow(0, 10, cwnd=10, flight=10), a_subflow(1, slow_rtt_ms, cwnd=10)
    order = Ecf().next_allotment(a_view(fast, slow, unsent=unsent))
    return None if order is None else order.subflow


def test_ecf_waits_when_the_fast_subflow_would_finish_earlier() -> None:
    # Fast: 10 ms (k / 10 + 1) against 40 ms on the slow one: equal at k = 30.
    assert ecf_orders(unsent=29) is None
    assert ecf_orders(unsent=30) is not None


def test_ecf_waits_on_with_a_margin_of_a_quarter() -> None:
    fast, slow = a_subflow(0, 10, cwnd=10, flight=10), a_subflow(1, 40, cwnd=10)
    scheduler = Ecf()
    assert scheduler.next_allotment(a_view(fast, slow, unsent=20)) is None
    assert scheduler.waiting
    # 1.25 * 40 ms: now up to k = 40.
    assert scheduler.next_allotment(a_view(fast, slow, unsent=39)) is None
    assert scheduler.next_allotment(a_view(fast, slow, unsent=40)) is not None
    assert not scheduler.waiting


def test_ecf_uses_a_subflow_that_is_hardly_slower() -> None:
    # 15 ms is less than two round trips of the fast one, and 5 segments fit one window.
    assert ecf_orders(unsent=5, slow_rtt_ms=15) is not None


def test_ecf_allows_for_the_spread_of_round_trips() -> None:
    fast, slow = a_subflow(0, 10, cwnd=10, flight=10), a_subflow(1, 40, cwnd=10)
    slow.rttvar_ns = 10 * MS
    # delta = 20 ms: 10 (k / 10 + 1) against 60, and 40 against 2 * 10 + 20: equal, so wait.
    assert Ecf().next_allotment(a_view(fast, slow, unsent=49)) is None
    slow.rttvar_ns = 11 * MS
    # 40 ms is less than 20 + 22 ms for the fast one: not worth waiting with one window left.
    assert Ecf().next_allotment(a_view(fast, slow, unsent=10)) is not None


# A subflow left idle


@pytest.mark.parametrize("make", [Blest, Ecf])
def test_a_subflow_that_looks_slow_from_its_own_queue_is_tried_again(
    make: Callable[[], Scheduler],
) -> None:
    fast, slow = a_subflow(0, 10, cwnd=10, flight=10), a_subflow(1, 40, cwnd=10, flight=9)
    view = a_view(fast, slow, unsent=200, window=2000)
    scheduler = make()
    scheduler.next_allotment(view)
    slow.congestion.srtt_ns = 2000 * MS  # as slow start leaves it
    slow.rttvar_ns = 500 * MS
    slow.in_flight_bytes = 0
    for _ in range(40):
        assert scheduler.next_allotment(view) is None
        view.now_ns += 100 * MS
    view.now_ns += 1
    order = scheduler.next_allotment(view)  # after two round trips without anything in flight
    assert order is not None
    assert order.subflow is slow
    slow.in_flight_bytes = MSS  # until it is measured, it is as slow as it was
    assert scheduler.next_allotment(view) is None
    slow.congestion.srtt_ns = 40 * MS
    slow.rttvar_ns = 0
    assert scheduler.next_allotment(view) is not None


# Linux


def test_pacing_rates_are_those_of_linux() -> None:
    subflow = a_subflow(0, rtt_ms=10, cwnd=10)
    assert pacing_rate(subflow.congestion) == pytest.approx(1.2 * 10 * MSS / (10 * MS))
    subflow.congestion.ssthresh_bytes = 21 * MSS
    assert pacing_rate(subflow.congestion) == pytest.approx(2.0 * 10 * MSS / (10 * MS))


def test_linux_default_takes_the_buffer_that_drains_first() -> None:
    # 30 segments at 10 / 10 ms drain in 25 ms, 10 at 10 / 40 ms in 33 ms.
    first, second = a_subflow(0, 10, cwnd=10, flight=30), a_subflow(1, 40, cwnd=10, flight=10)
    order = LinuxDefault().next_allotment(a_view(first, second))
    assert order is not None
    assert order.subflow is first
    first.in_flight_bytes = 0  # all is lost, and none of it acknowledged
    first.unacked_bytes = 50 * MSS
    order = LinuxDefault().next_allotment(a_view(first, second))
    assert order is not None
    assert order.subflow is second


def test_linux_default_queues_beyond_the_window_and_waits_for_a_full_buffer() -> None:
    subflow, other = a_subflow(0, 10, cwnd=10, flight=10), a_subflow(1, 10, cwnd=1, flight=10)
    subflow.queue_room_bytes = 40 * MSS
    order = LinuxDefault().next_allotment(a_view(subflow, other))
    assert order is not None
    assert order.end_offset == 40 * MSS
    subflow.queue_room_bytes = 0
    assert LinuxDefault().next_allotment(a_view(subflow, other)) is None


def test_linux_default_averages_the_rate_over_what_is_queued() -> None:
    subflow = a_subflow(0, 10, cwnd=10)
    scheduler = LinuxDefault()
    scheduler.next_allotment(a_view(subflow))
    subflow.unacked_bytes = 65 * MSS
    subflow.congestion.cwnd_bytes = 20 * MSS
    scheduler.next_allotment(a_view(subflow))
    # 65 segments at the old rate and 65 at twice that, in the mean 1.5 times: 130 segments take
    # 130 / 1.5 / 1.2 = 72 ms; a rival that needs 71 ms is preferred, one of 73 ms is not.
    subflow.unacked_bytes = 130 * MSS
    for flight, chosen in ((85, 1), (88, 0)):
        rival = a_subflow(1, 10, cwnd=10, flight=flight)
        fresh = LinuxDefault()
        fresh.mean_rate.update(scheduler.mean_rate)
        order = fresh.next_allotment(a_view(subflow, rival))
        assert order is not None
        assert order.subflow.subflow_id == chosen


@pytest.mark.parametrize("make", [LowestRtt, RoundRobin, Redundant, Blest, Ecf, LinuxDefault])
def test_forgetting_an_unknown_subflow_is_harmless(make: Callable[[], Scheduler]) -> None:
    make().on_subflow_closed(7)
