"""wVegas, one round trip at a time."""

from __future__ import annotations

import pytest
from tests.times import MS

from mptcplab.stack.congestion.base import AckSample, CongestionGroup
from mptcplab.stack.congestion.wvegas import WVegas

MSS = 1000


def made(window: int, ssthresh: int, group: CongestionGroup | None = None) -> WVegas:
    control = WVegas(MSS, group or CongestionGroup())
    control.cwnd_bytes = window * MSS
    control.ssthresh_bytes = ssthresh * MSS
    control.base_rtt_ns = 100 * MS
    return control


def a_round(control: WVegas, rtt_ms: int) -> int:
    """Keep the window full, five segments at a time, until a round ends; return cwnd."""
    rounds = control.rounds
    while control.rounds == rounds:
        an_ack(control, rtt_ms)
    return control.cwnd_bytes // MSS


def an_ack(control: WVegas, rtt_ms: int) -> None:
    control.on_send(0, control.cwnd_bytes)
    left_bytes = max(0, control.cwnd_bytes - 5 * MSS)
    control.on_ack(AckSample(0, 5 * MSS, rtt_ms * MS, rtt_ms * MS, left_bytes))


def settle(control: WVegas, rtt_ms: int) -> None:
    """Let the first round, which ends with the first ACK, pass without enough samples."""
    control.on_send(0, control.cwnd_bytes)
    control.on_ack(AckSample(0, 1, rtt_ms * MS, rtt_ms * MS, control.cwnd_bytes))


@pytest.mark.parametrize(
    ("rtt_ms", "alpha"),
    [
        (101, 2),  # 50 * 1 / 101 = 0 queued, less than alpha = 2
        (104, 2),  # 50 * 4 / 104 = 1 queued
        (105, 10),  # 50 * 5 / 105 = 2 queued, as many as alpha, which becomes 10 times weight 1
    ],
)
def test_one_more_segment_while_fewer_than_alpha_are_queued(rtt_ms: int, alpha: int) -> None:
    control = made(50, 10)
    settle(control, rtt_ms)
    assert a_round(control, rtt_ms) == 51
    assert control.alpha_segments == alpha


def test_alpha_of_a_single_path_is_ten() -> None:
    control = made(50, 10)
    settle(control, 120)
    assert a_round(control, 120) == 51  # 8 queued; alpha becomes 10 with weight 1
    assert control.alpha_segments == 10
    for _ in range(3):
        window = a_round(control, 125)
    assert window == 51  # 10 queued: as many as alpha
    assert a_round(control, 128) == 50  # 11 queued


def test_alpha_is_shared_by_rate() -> None:
    group = CongestionGroup()
    slow, fast = made(50, 10, group), made(150, 10, group)
    for control in (slow, fast):
        settle(control, 125)
    for _ in range(3):
        rounds = fast.rounds
        while fast.rounds == rounds:
            # Equal round trips: one ACK of the slow for three of the fast.
            an_ack(slow, 125)
            for _ in range(3):
                an_ack(fast, 125)
    assert fast.weight == pytest.approx(0.75, abs=0.02)
    assert fast.alpha_segments == 7


def test_slow_start_ends_when_more_than_one_segment_queues() -> None:
    control = made(10, 10_000)
    settle(control, 100)
    assert a_round(control, 100) == 20
    # Before the round's last ACK the window is 30: 30 * 5 / 105 = 1 queued, no more than gamma.
    assert a_round(control, 105) == 35
    # Then 60: 60 * 10 / 110 = 5 queued, so down to 60 * 100 / 110 + 1.
    assert a_round(control, 110) == 55
    assert not control.in_slow_start()


def test_a_queue_that_doubled_is_drained() -> None:
    control = made(50, 10)
    settle(control, 101)
    a_round(control, 101)
    a_round(control, 101)
    before = control.cwnd_bytes // MSS
    after = a_round(control, 104)  # 4 ms of queueing against a minimum of 1 ms
    assert after == (before + 1) * 100 // (2 * 104)


def test_never_below_two_segments() -> None:
    control = made(2, 1)
    settle(control, 100)
    for rtt_ms in (101, 150, 101, 200, 300):
        assert a_round(control, rtt_ms) >= 2


def test_after_a_loss_vegas_starts_afresh_but_keeps_the_base() -> None:
    control = made(50, 10)
    settle(control, 125)
    a_round(control, 125)
    assert control.alpha_segments == 10
    control.on_loss_event(0, 50 * MSS)
    control.on_recovery_exit(0)
    assert control.alpha_segments == 2
    assert control.base_rtt_ns == 100 * MS
    control.restart_after_idle(0)
    assert control.base_rtt_ns == 0
