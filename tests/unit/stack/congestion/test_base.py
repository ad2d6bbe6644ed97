"""Slow start, halving, timeouts, idle restart, undo, penalties and window use."""

from __future__ import annotations

import pytest
from tests.times import MS

from mptcplab.stack.congestion import CONGESTION_CONTROLS
from mptcplab.stack.congestion.base import (
    UNLIMITED_BYTES,
    AckSample,
    CongestionGroup,
    initial_window_bytes,
)
from mptcplab.stack.congestion.newreno import NewReno

MSS = 1400
RTT_NS = 10 * MS


def reno(cwnd_segments: int = 10, ssthresh_segments: int = 0) -> NewReno:
    control = NewReno(MSS, CongestionGroup())
    control.cwnd_bytes = cwnd_segments * MSS
    if ssthresh_segments:
        control.ssthresh_bytes = ssthresh_segments * MSS
    return control


def full_ack(control: NewReno, segments: int, now_ns: int = 0) -> None:
    """Send a full window, then acknowledge ``segments`` of it."""
    control.on_send(now_ns, control.cwnd_bytes)
    left_bytes = control.cwnd_bytes - segments * MSS
    control.on_ack(AckSample(now_ns, segments * MSS, RTT_NS, RTT_NS, left_bytes))


@pytest.mark.parametrize(
    ("mss_bytes", "window_bytes"),
    [(536, 5360), (1400, 14000), (1460, 14600), (2190, 14600), (8900, 17800), (65000, 130000)],
)
def test_initial_window_is_that_of_rfc_6928(mss_bytes: int, window_bytes: int) -> None:
    assert initial_window_bytes(mss_bytes) == window_bytes


def test_first_ssthresh_is_arbitrarily_high() -> None:
    control = NewReno(MSS, CongestionGroup())
    assert control.ssthresh_bytes == UNLIMITED_BYTES
    assert control.in_slow_start()


def test_slow_start_doubles_whether_acked_in_one_train_or_packet_by_packet() -> None:
    one_train, packets = reno(40), reno(40)
    full_ack(one_train, 40)
    packets.on_send(0, packets.cwnd_bytes)
    for packet in range(40):
        packets.on_ack(AckSample(0, MSS, RTT_NS, RTT_NS, (39 - packet) * MSS))
    assert one_train.cwnd_bytes == packets.cwnd_bytes == 80 * MSS


def test_slow_start_stops_at_ssthresh_and_spends_the_rest_on_avoidance() -> None:
    control = reno(10, ssthresh_segments=12)
    full_ack(control, 10)
    # 2 segments of slow start, then 8 of avoidance at a window of 12: 8 / 12 of a segment.
    assert control.cwnd_bytes == 12 * MSS + 8 * MSS // 12


def test_avoidance_grows_at_windows_far_above_mss_squared() -> None:
    control = reno(100_000, ssthresh_segments=10)
    start_bytes = control.cwnd_bytes
    assert start_bytes > MSS * MSS * 50
    for _ in range(100_000 // 40):
        full_ack(control, 40)
    assert start_bytes + MSS - 30 <= control.cwnd_bytes <= start_bytes + MSS


def test_a_window_that_is_not_used_does_not_grow() -> None:
    control = reno(100, ssthresh_segments=10)
    for _ in range(3):
        control.on_send(0, 50 * MSS)
        control.on_ack(AckSample(0, 50 * MSS, RTT_NS, RTT_NS, 0))
    before_bytes = control.cwnd_bytes
    assert before_bytes == 100 * MSS
    assert not control.window_was_used()


def test_in_slow_start_half_the_window_in_use_suffices() -> None:
    half, less = reno(100), reno(100)
    half.on_send(0, 51 * MSS)
    half.on_ack(AckSample(0, MSS, RTT_NS, RTT_NS, 50 * MSS))
    less.on_send(0, 49 * MSS)
    less.on_ack(AckSample(0, MSS, RTT_NS, RTT_NS, 48 * MSS))
    assert half.cwnd_bytes == 101 * MSS
    assert less.cwnd_bytes == 100 * MSS


def test_two_acks_in_a_row_both_count_although_nothing_was_sent_between() -> None:
    control = reno(100)
    control.on_send(0, 100 * MSS)
    control.on_ack(AckSample(0, 60 * MSS, RTT_NS, RTT_NS, 40 * MSS))
    control.on_ack(AckSample(0, 40 * MSS, RTT_NS, RTT_NS, 0))
    assert control.cwnd_bytes == 200 * MSS


def test_a_loss_halves_what_was_in_flight_up_to_the_window() -> None:
    control = reno(20, ssthresh_segments=5)
    control.on_loss_event(0, 16 * MSS)
    assert control.cwnd_bytes == control.ssthresh_bytes == 8 * MSS
    control = reno(20, ssthresh_segments=5)
    control.on_loss_event(0, 30 * MSS)
    assert control.cwnd_bytes == 10 * MSS
    control.on_loss_event(0, 1)
    assert control.cwnd_bytes == 2 * MSS


def test_recovery_counts_acks_but_does_not_grow() -> None:
    control = reno(20, ssthresh_segments=5)
    control.on_send(0, 20 * MSS)
    control.on_loss_event(0, 20 * MSS)
    control.on_ack(AckSample(0, 10 * MSS, RTT_NS, RTT_NS, 10 * MSS, in_recovery=True))
    assert control.cwnd_bytes == 10 * MSS
    assert control.rounds == 1


def test_a_timeout_falls_back_to_one_segment_and_changes_ssthresh_once() -> None:
    control = reno(20, ssthresh_segments=5)
    control.on_rto(0, 20 * MSS, first=True)
    assert (control.cwnd_bytes, control.ssthresh_bytes) == (MSS, 10 * MSS)
    control.on_rto(0, 20 * MSS, first=False)
    assert (control.cwnd_bytes, control.ssthresh_bytes) == (MSS, 10 * MSS)


WINDOWED = [name for name, kind in CONGESTION_CONTROLS.items() if not kind.controls_rate]
"""Those that are told by losses how far to open a window."""


@pytest.mark.parametrize("name", WINDOWED)
def test_undo_takes_a_reduction_back(name: str) -> None:
    for timeout in (False, True):
        control = CONGESTION_CONTROLS[name](MSS, CongestionGroup())
        control.cwnd_bytes = 50 * MSS
        control.ssthresh_bytes = 40 * MSS
        if timeout:
            control.on_rto(0, 50 * MSS, first=True)
        else:
            control.on_loss_event(0, 50 * MSS)
        assert control.cwnd_bytes < 50 * MSS
        control.undo(1)
        assert (control.cwnd_bytes, control.ssthresh_bytes) == (50 * MSS, 40 * MSS)


@pytest.mark.parametrize("name", WINDOWED)
def test_after_idling_the_window_is_the_initial_one_or_less(name: str) -> None:
    control = CONGESTION_CONTROLS[name](MSS, CongestionGroup())
    control.cwnd_bytes = 50 * MSS
    control.restart_after_idle(0)
    assert control.cwnd_bytes == 10 * MSS
    control.cwnd_bytes = 3 * MSS
    control.restart_after_idle(0)
    assert control.cwnd_bytes == 3 * MSS


def test_a_penalty_halves_the_window_and_out_of_slow_start_ssthresh_too() -> None:
    control = reno(20, ssthresh_segments=12)
    control.penalise(0)
    assert (control.cwnd_bytes, control.ssthresh_bytes) == (10 * MSS, 6 * MSS)
    control = reno(20, ssthresh_segments=30)
    control.penalise(0)
    assert (control.cwnd_bytes, control.ssthresh_bytes) == (10 * MSS, 30 * MSS)
    control = reno(1, ssthresh_segments=1)
    control.penalise(0)
    assert control.cwnd_bytes == MSS


def test_closing_leaves_the_group_and_may_be_repeated() -> None:
    group = CongestionGroup()
    first, second = NewReno(MSS, group), NewReno(MSS, group)
    assert group.members == [first, second]
    first.close()
    first.close()
    assert group.members == [second]


@pytest.mark.parametrize("name", WINDOWED)
def test_alone_every_control_grows_by_about_a_segment_per_window(name: str) -> None:
    """With one subflow, the coupled controls are Reno (CUBIC and wVegas move by their own law)."""
    control = CONGESTION_CONTROLS[name](MSS, CongestionGroup())
    control.cwnd_bytes = 100 * MSS
    control.ssthresh_bytes = 50 * MSS
    control.srtt_ns = RTT_NS
    now_ns = 0
    for _ in range(10):
        now_ns += RTT_NS
        control.on_send(now_ns, control.cwnd_bytes)
        for train in range(5):
            left_bytes = control.cwnd_bytes - (train + 1) * 20 * MSS
            control.on_ack(AckSample(now_ns, 20 * MSS, RTT_NS, RTT_NS, max(0, left_bytes)))
    grown = control.cwnd_bytes / MSS - 100
    if name == "cubic":
        # The kernel's is not slower than a segment for 20 acknowledged while nothing was lost.
        assert grown == 50.0
    elif name.startswith("cubic"):
        # No plateau is known: K = 0, 0.4 t^3 with t = 0.1 s, and Reno's window is the larger one.
        assert 5.0 < grown < 10.0
    elif name == "wvegas":
        # The first ACK ends a round of its own.
        assert grown == 11.0
    else:
        assert 9.0 < grown <= 10.0
