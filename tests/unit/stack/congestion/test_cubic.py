"""CUBIC against the formulas of RFC 9438 written out anew; HyStart++ against RFC 9406."""

from __future__ import annotations

import pytest
from tests.times import MS

from mptcplab.stack.congestion.base import AckSample, CongestionGroup
from mptcplab.stack.congestion.cubic import Cubic, CubicHyStart

MSS = 1000
RTT_NS = 100 * MS


def drive(control: Cubic, start_ns: int, rounds: int) -> list[tuple[float, float]]:
    """Acknowledge full windows, one train per RTT; return (seconds since start, segments)."""
    points = []
    for number in range(1, rounds + 1):
        now_ns = start_ns + number * RTT_NS
        control.on_send(now_ns, control.cwnd_bytes)
        control.on_ack(AckSample(now_ns, control.cwnd_bytes, RTT_NS, RTT_NS, 0))
        points.append((number * RTT_NS / 1e9, control.cwnd_bytes / MSS))
    return points


def lossy(window: int) -> Cubic:
    control = Cubic(MSS, CongestionGroup())
    control.srtt_ns = RTT_NS
    control.cwnd_bytes = window * MSS
    control.ssthresh_bytes = MSS
    control.on_loss_event(0, window * MSS)
    return control


def test_a_loss_leaves_seven_tenths() -> None:
    control = lossy(1000)
    assert control.cwnd_bytes == control.ssthresh_bytes == 700 * MSS


def test_the_window_follows_the_cubic_curve() -> None:
    control = lossy(1000)
    points = drive(control, 0, 120)
    # K = cbrt(W_max (1 - beta) / C): 9.086 s after the first avoidance ACK (at 0.1 s).
    k_s = (1000 * 0.3 / 0.4) ** (1 / 3)
    assert k_s == pytest.approx(9.086, abs=1e-3)
    for at_s, segments in points[5:]:
        # After each RTT the window is where the curve was due one RTT later.
        expected = 0.4 * (at_s - 0.1 + 0.1 - k_s) ** 3 + 1000
        assert segments == pytest.approx(expected, rel=0.005)


def test_fast_convergence_lowers_the_next_plateau() -> None:
    control = lossy(1000)
    drive(control, 0, 20)
    reduced = control.cwnd_bytes / MSS
    assert reduced < 1000
    control.on_loss_event(2_100_000_000, control.cwnd_bytes)
    plateau = reduced * 1.7 / 2
    k_s = ((plateau - control.cwnd_bytes / MSS) / 0.4) ** (1 / 3)
    points = drive(control, 2_100_000_000, int(k_s * 10) + 1)
    assert points[-1][1] == pytest.approx(plateau, rel=0.01)


def test_with_short_round_trips_and_small_windows_it_is_reno_with_beta() -> None:
    control = Cubic(MSS, CongestionGroup())
    control.cwnd_bytes = 20 * MSS
    control.ssthresh_bytes = MSS
    control.on_loss_event(0, 20 * MSS)
    rtt_ns = 1_000_000
    windows = []
    for number in range(1, 31):
        control.on_send(number * rtt_ns, control.cwnd_bytes)
        before = control.cwnd_bytes
        control.on_ack(AckSample(number * rtt_ns, before, rtt_ns, rtt_ns, 0))
        windows.append((control.cwnd_bytes - before) / MSS)
    # 3 (1 - 0.7) / (1 + 0.7) = 9 / 17 of a segment per round until the old window is reached.
    assert windows[0] == pytest.approx(9 / 17, abs=0.01)
    assert sum(windows[:11]) == pytest.approx(11 * 9 / 17, rel=0.01)
    # 6 segments take 11.3 rounds; after that a whole segment per round.
    assert windows[20] == pytest.approx(1.0, abs=0.01)


def test_time_in_which_the_window_was_not_needed_does_not_count() -> None:
    control = lossy(1000)
    drive(control, 0, 30)
    window = control.cwnd_bytes
    for number in range(100):
        now_ns = 3_000_000_000 + number * RTT_NS
        control.on_send(now_ns, 10 * MSS)
        control.on_ack(AckSample(now_ns, 10 * MSS, RTT_NS, RTT_NS, 0))
    assert control.cwnd_bytes == window
    points = drive(control, 13_000_000_000, 1)
    assert points[0][1] < window / MSS * 1.02


def test_after_a_timeout_the_curve_starts_where_slow_start_ended() -> None:
    control = lossy(1000)
    drive(control, 0, 5)
    control.on_rto(600_000_000, control.cwnd_bytes, first=True)
    threshold = control.ssthresh_bytes / MSS
    points = drive(control, 600_000_000, 40)
    above = [point for point in points if point[1] > threshold]
    first_s = above[0][0]
    for at_s, segments in above[5:]:
        reno = threshold + 9 / 17 * (at_s - first_s) / 0.1
        cubic = 0.4 * (at_s - first_s + 0.1) ** 3 + threshold
        assert segments == pytest.approx(max(reno, cubic), rel=0.02)


def a_round(control: CubicHyStart, rtt_ms: int) -> float:
    """Keep the window full, two segments per ACK, until a round ends; return cwnd's growth."""
    rounds = control.rounds
    start_bytes = control.cwnd_bytes
    while control.rounds == rounds:
        control.on_send(0, control.cwnd_bytes)
        left_bytes = control.cwnd_bytes - 2 * MSS
        control.on_ack(AckSample(0, 2 * MSS, rtt_ms * 10**6, rtt_ms * 10**6, left_bytes))
    return control.cwnd_bytes / start_bytes


def started() -> CubicHyStart:
    """Return a control after four rounds of 100 ms."""
    control = CubicHyStart(MSS, CongestionGroup())
    for _ in range(4):
        a_round(control, 100)
    return control


def test_hystart_is_slow_start_while_the_round_trip_stays() -> None:
    control = started()
    assert [a_round(control, 100) for _ in range(4)] == [pytest.approx(2.0, rel=0.1)] * 4


def test_hystart_wants_an_eighth_more_of_round_trip() -> None:
    # A threshold of 100 ms / 8: 112 ms is not enough.
    control = started()
    for rtt_ms in (112, 112):
        assert a_round(control, rtt_ms) == pytest.approx(2.0, rel=0.1)
    control = started()
    a_round(control, 113)
    assert a_round(control, 113) == pytest.approx(1.25, abs=0.02)


def test_hystart_threshold_is_from_4_to_16_ms() -> None:
    for base_ms, enough_ms in ((10, 14), (400, 416)):
        control = CubicHyStart(MSS, CongestionGroup())
        for rtt_ms in (base_ms, base_ms, base_ms, enough_ms - 1):
            a_round(control, rtt_ms)
        assert a_round(control, enough_ms - 1) > 1.8
        control = CubicHyStart(MSS, CongestionGroup())
        for rtt_ms in (base_ms, base_ms, base_ms, enough_ms):
            a_round(control, rtt_ms)
        assert a_round(control, enough_ms) < 1.3


def test_conservative_slow_start_ends_after_five_rounds() -> None:
    control = started()
    a_round(control, 120)  # begins with the ACK that ended the last round of 100 ms
    a_round(control, 120)  # the first of the five, conservative from its eighth segment on
    assert [a_round(control, 120) for _ in range(4)] == [pytest.approx(1.25, abs=0.02)] * 4
    assert a_round(control, 120) < 1.01
    assert not control.in_slow_start()


def test_hystart_resumes_when_the_round_trip_shrinks_again() -> None:
    control = started()
    for _ in range(2):
        a_round(control, 120)
    a_round(control, 110)
    assert a_round(control, 110) > 1.9
    assert control.in_slow_start()


def test_hystart_is_for_the_first_slow_start_only() -> None:
    control = started()
    control.on_rto(0, control.cwnd_bytes, first=True)
    control.ssthresh_bytes = 10**9
    a_round(control, 100)
    for rtt_ms in (200, 300, 400):
        assert a_round(control, rtt_ms) > 1.5
