"""The kernel's CUBIC and its HyStart, against tcp_cubic.c's rules written out anew."""

from __future__ import annotations

import pytest
from tests.times import MS, SECOND

from mptcplab.stack.congestion.base import AckSample, CongestionControl, CongestionGroup
from mptcplab.stack.congestion.cubic import Cubic
from mptcplab.stack.congestion.linux_cubic import LinuxCubic

MSS = 1000
RTT_NS = 100 * MS


def in_slow_start(segments: int) -> LinuxCubic:
    """Return a control at a window, with one round trip of 100 ms seen."""
    control = LinuxCubic(MSS, CongestionGroup())
    control.cwnd_bytes = segments * MSS
    control.on_send(0, control.cwnd_bytes)
    ack(control, 0, 1)
    return control


def ack(
    control: CongestionControl,
    now_ns: int,
    segments: int,
    rtt_ns: int = RTT_NS,
    spread_ns: int = 0,
) -> None:
    """Acknowledge segments of a full window."""
    control.on_send(now_ns, control.cwnd_bytes)
    left_bytes = control.cwnd_bytes - segments * MSS
    acked = segments * MSS
    control.on_ack(AckSample(now_ns, acked, rtt_ns, rtt_ns, left_bytes, spread_ns=spread_ns))


def begin_round(control: CongestionControl, now_ns: int, rtt_ns: int = RTT_NS) -> None:
    """Acknowledge a window, and of the next, which it let go, the first two segments."""
    ack(control, now_ns - MS, control.cwnd_bytes // MSS, rtt_ns)
    ack(control, now_ns, 2, rtt_ns)


def exit_ns(gap_ns: int, segments: int = 200, until_ns: int = 99 * MS) -> int:
    """Return when slow start ends whose ACKs, for two segments each, come so far apart; 0: not."""
    control = in_slow_start(segments)
    begin_round(control, SECOND)
    for now_ns in range(gap_ns, until_ns, gap_ns):
        ack(control, SECOND + now_ns, 2)
        if not control.in_slow_start():
            return now_ns
    return 0


def test_acks_that_follow_closely_for_half_a_round_trip_end_slow_start() -> None:
    """And half of the millisecond that bursts are allowed: (100 + 1) / 2 ms."""
    assert exit_ns(MS) == 51 * MS


def test_acks_with_gaps_of_more_than_2_ms_are_no_train() -> None:
    assert exit_ns(2 * MS) == 52 * MS
    assert exit_ns(2 * MS + 1) == 0


def test_a_train_of_acks_ends_slow_start_where_the_one_would_that_decides() -> None:
    one_by_one = in_slow_start(200)
    begin_round(one_by_one, SECOND)
    for now_ns in range(MS, 99 * MS, MS):
        ack(one_by_one, SECOND + now_ns, 2)
    together = in_slow_start(200)
    begin_round(together, SECOND)
    for number in range(1, 9):
        ack(together, SECOND + number * 10 * MS, 20, spread_ns=9 * MS)
    assert together.ssthresh_bytes == pytest.approx(one_by_one.ssthresh_bytes, rel=0.01)


@pytest.mark.parametrize(("rtt_ms", "ends"), [(112, False), (113, True)])
def test_nine_round_trips_an_eighth_longer_end_slow_start(rtt_ms: int, ends: bool) -> None:
    control = in_slow_start(100)
    begin_round(control, SECOND, rtt_ms * MS)
    for number in range(1, 9):
        assert control.in_slow_start()
        ack(control, SECOND + number * 5 * MS, 2, rtt_ms * MS)
    assert control.in_slow_start() is not ends


def test_small_windows_are_left_alone() -> None:
    assert exit_ns(2 * MS, segments=5, until_ns=10 * MS) == 0
    control = in_slow_start(6)
    for number in range(1, 9):
        ack(control, SECOND + number * 5 * MS, 1, 200 * MS)
    assert control.in_slow_start()


def test_after_a_timeout_it_looks_again() -> None:
    control = in_slow_start(200)
    begin_round(control, SECOND)
    for now_ns in range(MS, 60 * MS, MS):
        ack(control, SECOND + now_ns, 2)
    assert not control.in_slow_start()
    control.on_rto(2 * SECOND, control.cwnd_bytes, first=True)
    control.cwnd_bytes = 100 * MSS
    control.ssthresh_bytes = 1000 * MSS
    begin_round(control, 3 * SECOND)
    for now_ns in range(MS, 60 * MS, MS):
        ack(control, 3 * SECOND + now_ns, 1)
    assert not control.in_slow_start()
    assert control.ssthresh_bytes == pytest.approx(250 * MSS, abs=3 * MSS)


def after_loss(segments: int) -> LinuxCubic:
    control = LinuxCubic(MSS, CongestionGroup())
    control.srtt_ns = RTT_NS
    control.cwnd_bytes = segments * MSS
    control.on_loss_event(0, segments * MSS)
    return control


def test_the_window_follows_the_curve_and_a_second_loss_lowers_it() -> None:
    control = after_loss(1000)
    assert control.cwnd_bytes == 717 * 1000 // 1024 * MSS + 195
    k_s = (300 * 1024 / 410) ** (1 / 3)
    for number in range(1, 150):
        ack(control, number * RTT_NS, control.cwnd_bytes // MSS)
        if number > 5:
            expected = 1000 + 410 / 1024 * (number / 10 - k_s) ** 3
            assert control.cwnd_bytes / MSS == pytest.approx(expected, rel=0.01, abs=2)
    control.cwnd_bytes = 900 * MSS
    control.on_loss_event(20 * SECOND, 900 * MSS)
    assert control._curve.last_max_segments == 900 * 1741 // 2048


@pytest.mark.parametrize("kind", [Cubic, LinuxCubic])
def test_the_curve_moves_on_by_the_time_in_which_nothing_was_sent(
    kind: type[CongestionControl],
) -> None:
    """RFC 9438 section 5.8; the next ACK after a pause already sees a full window."""
    control = kind(MSS, CongestionGroup())
    control.cwnd_bytes = 1000 * MSS
    control.on_loss_event(0, 1000 * MSS)
    for number in range(1, 21):
        ack(control, number * RTT_NS, control.cwnd_bytes // MSS)
    before = control.cwnd_bytes
    now_ns = 20 * RTT_NS + 60 * SECOND
    control.on_transmit_start(now_ns, 60 * SECOND)
    ack(control, now_ns + RTT_NS, before // MSS)
    assert before <= control.cwnd_bytes < 1.03 * before


class WholeNumbers:
    """tcp_cubic.c's window after a loss, in jiffies and whole segments, written out anew."""

    def __init__(self, segments: int, rtt_ns: int) -> None:
        self.window, self.least = segments, -(-rtt_ns // (4 * MS))
        self.last_max = self.origin = self.root = self.reno = self.acked = 0
        self.credit = self.count = self.looked_at = self.looked_when = 0
        self.epoch = -1

    def lose(self) -> None:
        shrank = self.window < self.last_max
        self.last_max = self.window * 1741 // 2048 if shrank else self.window
        self.window = self.window * 717 // 1024
        self.epoch, self.credit = -1, 0

    def ack(self, now_ns: int) -> None:
        jiffies = now_ns // (4 * MS)
        self.acked += 1
        if self.window != self.looked_at or jiffies - self.looked_when > 7:
            if self.epoch < 0 or jiffies != self.looked_when:
                self.looked_at, self.looked_when = self.window, jiffies
                self._look(jiffies)
            while self.acked > self.window * 15 >> 3:
                self.acked -= self.window * 15 >> 3
                self.reno += 1
            if self.reno > self.window:
                self.count = min(self.count, self.window // (self.reno - self.window))
            self.count = max(self.count, 2)
        if self.credit >= self.count:
            self.credit = 0
            self.window += 1
        self.credit += 1
        if self.credit >= self.count:
            self.credit -= self.count
            self.window += 1

    def _look(self, jiffies: int) -> None:
        if self.epoch < 0:
            self.epoch, self.acked, self.reno = jiffies, 1, self.window
            self.origin = max(self.last_max, self.window)
            self.root = int(((1 << 40) // 410 * (self.origin - self.window)) ** (1 / 3))
        age = (jiffies - self.epoch + self.least) * 1024 // 250
        change = 410 * abs(age - self.root) ** 3 >> 40
        target = self.origin + (change if age > self.root else -change)
        ahead = target - self.window
        self.count = self.window // ahead if ahead > 0 else 100 * self.window


@pytest.mark.parametrize(
    ("rtt_us", "segments", "between_losses"),
    [
        (600, 40, 1000),
        (1500, 16, 600),
        (1000, 100, 8000),
        (20_000, 100, 4000),
        (100_000, 500, 50_000),
    ],
)
def test_over_losses_the_window_is_the_kernels(
    rtt_us: int, segments: int, between_losses: int
) -> None:
    rtt_ns = rtt_us * 1000
    control = LinuxCubic(MSS, CongestionGroup())
    control.cwnd_bytes = segments * MSS
    expected = WholeNumbers(segments, rtt_ns)
    now_ns, ours, theirs = 0, 0, 0
    for number in range(30 * between_losses):
        if number % between_losses == 0:
            control.on_loss_event(now_ns, control.cwnd_bytes)
            expected.lose()
        now_ns += rtt_ns * MSS // control.cwnd_bytes
        ack(control, now_ns, 1, rtt_ns)
        expected.ack(now_ns)
        ours += control.cwnd_bytes // MSS
        theirs += expected.window
    assert ours == pytest.approx(theirs, rel=0.03)
