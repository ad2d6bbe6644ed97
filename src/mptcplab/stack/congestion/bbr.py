"""BBR, version 1, as Linux has it (net/ipv4/tcp_bbr.c).

Cardwell, Cheng, Gunn, Yeganeh, Jacobson: "BBR: Congestion-Based Congestion Control" (ACM Queue 14,
5, 2016). It models a path by the most that it delivered per time and the least that it took, paces
by the first, and keeps in flight about twice the product. Losses and marks as such do not slow it.

The parts of the model are objects of their own here. Sizes are bytes, rates bytes per second, times
nanoseconds; where the kernel counts in packets and rounds, so does this.
"""

from __future__ import annotations

from typing import ClassVar, Final

from mptcplab.stack.congestion.base import AckSample, CongestionControl, CongestionGroup
from mptcplab.stack.congestion.rate_sample import RateSample

SECOND_NS: Final = 1_000_000_000

HIGH_GAIN: Final = 739 / 256
"""2 / ln 2 in the kernel's units: the least gain that doubles what is delivered each round trip."""
DRAIN_GAIN: Final = 88 / 256
"""Its inverse, which drains in one round trip what startup queued."""
CWND_GAIN: Final = 2.0
PROBE_GAINS: Final[list[float]] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
"""The cycle of PROBE_BW (bbr_pacing_gain)."""
FIRST_PHASES: Final = 7
"""The cycle begins at any phase but the one that drains (bbr_cycle_rand)."""
PACED_SHARE: Final = 0.99
"""It paces a little below what it has measured (bbr_pacing_margin_percent)."""
BANDWIDTH_ROUNDS: Final = 10
MIN_RTT_WINDOW_NS: Final = 10 * SECOND_NS
PROBE_RTT_NS: Final = 200_000_000
LEAST_SEGMENTS: Final = 4
INITIAL_SEGMENTS: Final = 10
FULL_GROWTH: Final = 1.25
FULL_ROUNDS: Final = 3
"""The pipe is full once the bandwidth has not grown by so much in so many rounds."""

BURST_DIVISOR: Final = 1024
"""A burst is what leaves in a 1024th of a second (sk_pacing_shift)."""
SLOW_BYTES_PER_S: Final = 1_200_000 // 8
"""Below it a burst may be one segment (bbr_min_tso_rate)."""
MOST_BURST_BYTES: Final = 65_535 - 320
MOST_BURST_SEGMENTS: Final = 127

EXTRA_ROUNDS: Final = 5
EXTRA_MOST_NS: Final = 100_000_000
EXTRA_RESET_SEGMENTS: Final = 1 << 20

POLICED_ROUNDS: Final = 4
POLICED_LOSS: Final = 50 / 256
POLICED_LIKENESS: Final = 1 / 8
POLICED_DIFFERENCE: Final = 500
POLICED_KEPT_ROUNDS: Final = 48


STARTUP: Final = 0
DRAIN: Final = 1
PROBE_BW: Final = 2
PROBE_RTT: Final = 3
"""What it is about (bbr_mode)."""


class Rounds:
    """Round trips, told by packets: what was sent after one began is delivered."""

    __slots__ = ("_end_bytes", "count", "started")

    def __init__(self) -> None:
        self.count: int = 0
        self.started: bool = False
        """Whether the ACK at hand begins one."""
        self._end_bytes: int = 0

    def take(self, rate: RateSample) -> None:
        """See whether a valid sample begins a round."""
        if rate.prior_delivered_bytes >= self._end_bytes:
            self.begin(rate.total_delivered_bytes)
            self.count += 1
            self.started = True

    def begin(self, delivered_bytes: int) -> None:
        """Have one begin now."""
        self._end_bytes = delivered_bytes


class Bandwidth:
    """The largest delivery rate of the last rounds (bytes per second)."""

    __slots__ = ("_by_round", "_newest", "largest")

    def __init__(self) -> None:
        self.largest: int = 0
        self._by_round: list[int] = [0] * (BANDWIDTH_ROUNDS + 1)
        self._newest: int = 0

    def take(self, rate: int, round_number: int) -> None:
        """Take in a sample of a round."""
        by_round = self._by_round
        passed = round_number - self._newest
        if passed > 0:
            for number in range(self._newest + 1, round_number + 1)[-len(by_round) :]:
                by_round[number % len(by_round)] = 0
            self._newest = round_number
        place = round_number % len(by_round)
        if rate > by_round[place]:
            by_round[place] = rate
        if passed > 0:
            self.largest = max(by_round)
        elif rate > self.largest:
            self.largest = rate


class FullPipe:
    """Whether startup has filled the path (bbr_check_full_bw_reached)."""

    __slots__ = ("_rounds", "_seen", "reached")

    def __init__(self) -> None:
        self.reached: bool = False
        self._seen: int = 0
        self._rounds: int = 0

    def judge(self, bandwidth: int) -> None:
        """A round has ended in which the application had enough to send."""
        if self.reached:
            return
        if bandwidth >= self._seen * FULL_GROWTH:
            self._seen = bandwidth
            self._rounds = 0
            return
        self._rounds += 1
        self.reached = self._rounds >= FULL_ROUNDS

    def forget(self) -> None:
        """What was seen does not count: a loss, or one that was none, came between."""
        self._seen = 0
        self._rounds = 0


class Policer:
    """A token bucket that drops what exceeds a rate (bbr_lt_bw_sampling)."""

    __slots__ = (
        "_delivered_bytes",
        "_lost_bytes",
        "_rounds",
        "_sampling",
        "_start_ns",
        "found",
        "rate",
    )

    def __init__(self) -> None:
        self.found: bool = False
        """Use its rate."""
        self.rate: int = 0
        """What it lets through, or may (bytes per second)."""
        self._sampling: bool = False
        self._rounds: int = 0
        self._start_ns: int = 0
        self._delivered_bytes: int = 0
        self._lost_bytes: int = 0

    def forget(self) -> None:
        """Look anew, from the next loss on."""
        self.found = False
        self.rate = 0
        self._sampling = False

    def _begin(self, rate: RateSample, now_ns: int) -> None:
        self._start_ns = now_ns
        self._delivered_bytes = rate.total_delivered_bytes
        self._lost_bytes = rate.total_lost_bytes
        self._rounds = 0

    def is_outdated(self, round_started: bool) -> bool:
        """Count the rounds for which its rate is used; say whether they are enough."""
        if round_started:
            self._rounds += 1
        return self._rounds >= POLICED_KEPT_ROUNDS

    def sample(self, rate: RateSample, round_started: bool, now_ns: int) -> None:
        """Two lossy intervals that deliver as much as each other show a policer."""
        if not self._sampling:
            if rate.lost_bytes == 0:
                return
            self._begin(rate, now_ns)
            self._sampling = True
        if rate.app_limited:
            self.forget()
            return
        if round_started:
            self._rounds += 1
        if self._rounds < POLICED_ROUNDS:
            return
        if self._rounds > 4 * POLICED_ROUNDS:
            self.forget()
            return
        delivered_bytes = rate.total_delivered_bytes - self._delivered_bytes
        lost_bytes = rate.total_lost_bytes - self._lost_bytes
        if (
            rate.lost_bytes == 0
            or delivered_bytes == 0
            or lost_bytes < POLICED_LOSS * delivered_bytes
            or now_ns - self._start_ns < 1_000_000
        ):
            return
        self._compare(delivered_bytes * SECOND_NS // (now_ns - self._start_ns), rate, now_ns)

    def _compare(self, found_rate: int, rate: RateSample, now_ns: int) -> None:
        if self.rate:
            difference = abs(found_rate - self.rate)
            if difference <= POLICED_LIKENESS * self.rate or difference <= POLICED_DIFFERENCE:
                self.rate = (found_rate + self.rate) // 2
                self.found = True
                self._rounds = 0
                return
        self.rate = found_rate
        self._begin(rate, now_ns)


class AckAggregation:
    """What is acknowledged at once beyond the bandwidth (bbr_update_ack_aggregation)."""

    __slots__ = ("_acked_bytes", "_most_bytes", "_place", "_rounds", "_start_ns")

    def __init__(self) -> None:
        self._start_ns: int = 0
        self._acked_bytes: int = 0
        self._most_bytes: list[int] = [0, 0]
        """Of the last rounds, and of those before."""
        self._place: int = 0
        self._rounds: int = 0

    def begin(self, now_ns: int) -> None:
        """Count from now on."""
        self._start_ns = now_ns
        self._acked_bytes = 0

    def take(self, ack: AckSample, bandwidth: int, cwnd_bytes: int, round_started: bool) -> None:
        """Count what an ACK delivered."""
        if round_started:
            self._rounds += 1
            if self._rounds >= EXTRA_ROUNDS:
                self._rounds = 0
                self._place = 1 - self._place
                self._most_bytes[self._place] = 0
        expected_bytes = bandwidth * (ack.now_ns - self._start_ns) // SECOND_NS
        if self._acked_bytes <= expected_bytes:
            self.begin(ack.now_ns)
            expected_bytes = 0
        self._acked_bytes += ack.acked_bytes
        extra_bytes = min(self._acked_bytes - expected_bytes, cwnd_bytes)
        if extra_bytes > self._most_bytes[self._place]:
            self._most_bytes[self._place] = extra_bytes

    def extra_bytes(self, bandwidth: int) -> int:
        """Return what the window has to hold for it."""
        return min(max(self._most_bytes), bandwidth * EXTRA_MOST_NS // SECOND_NS)


class LeastRtt:
    """The least round trip of ten seconds, and the dip that looks for it (bbr_update_min_rtt)."""

    __slots__ = ("_done_ns", "_round_passed", "_since_ns", "after_idle", "rtt_ns")

    def __init__(self) -> None:
        self.rtt_ns: int = 0
        """0 before the first sample."""
        self.after_idle: bool = False
        """Sending has begun again, and nothing of it was acknowledged."""
        self._since_ns: int = 0
        self._done_ns: int = 0
        """When the dip has lasted long enough; 0 before the flight is small."""
        self._round_passed: bool = False

    def take(self, rtt_ns: int, now_ns: int) -> bool:
        """Take in a sample (0: none); say whether the one that stands has become too old."""
        expired = now_ns > self._since_ns + MIN_RTT_WINDOW_NS
        if rtt_ns > 0 and (self.rtt_ns == 0 or rtt_ns <= self.rtt_ns or expired):
            self.rtt_ns = rtt_ns
            self._since_ns = now_ns
        return expired

    def begin_dip(self) -> None:
        """The window shrinks from now on."""
        self._done_ns = 0

    def dip(self, in_flight_bytes: int, floor_bytes: int, rounds: Rounds, ack: AckSample) -> bool:
        """Say whether the dip is over: 200 ms and a round trip with a small flight."""
        if self._done_ns == 0:
            if in_flight_bytes <= floor_bytes:
                self._done_ns = ack.now_ns + PROBE_RTT_NS
                self._round_passed = False
                rounds.begin(ack.rate.total_delivered_bytes)
            return False
        if rounds.started:
            self._round_passed = True
        return self._round_passed and self.may_end(ack.now_ns)

    def may_end(self, now_ns: int) -> bool:
        """Say whether the dip has lasted; what was found stands from now on."""
        if self._done_ns == 0 or now_ns <= self._done_ns:
            return False
        self._since_ns = now_ns
        return True


class Restoring:
    """The window before a recovery or a dip, to return to (bbr_save_cwnd)."""

    __slots__ = ("conserving", "recovering", "repairing", "window_bytes")

    def __init__(self) -> None:
        self.window_bytes: int = 0
        self.recovering: bool = False
        self.repairing: bool = False
        """In fast recovery at the last ACK, and in this or in the recovery from a timeout."""
        self.conserving: bool = False
        """In the first round of recovery as much leaves as arrives."""

    def save(self, cwnd_bytes: int, dipping: bool) -> None:
        """Note the window, if it was not made small already."""
        if not self.repairing and not dipping:
            self.window_bytes = cwnd_bytes
        else:
            self.window_bytes = max(self.window_bytes, cwnd_bytes)


class Cycle:
    """The phases of PROBE_BW."""

    __slots__ = ("_start_ns", "phase")

    def __init__(self) -> None:
        self.phase: int = 0
        self._start_ns: int = 0

    def begin(self, now_ns: int) -> None:
        """Begin at any phase but the second, so that flows do not probe together.

        DEVIATION: the kernel draws it; here the clock decides, and runs can be repeated.
        """
        self.phase = len(PROBE_GAINS) - 1 - now_ns // 1000 % FIRST_PHASES
        self.advance(now_ns)

    def advance(self, now_ns: int) -> None:
        """Go on to the next phase."""
        self.phase = (self.phase + 1) % len(PROBE_GAINS)
        self._start_ns = now_ns

    def lasted_ns(self, now_ns: int) -> int:
        """Return for how long the phase lasts."""
        return now_ns - self._start_ns


class Bbr(CongestionControl):
    """BBRv1."""

    __slots__ = (
        "_aggregation",
        "_bandwidth",
        "_cycle",
        "_least_rtt",
        "_pipe",
        "_policer",
        "_restoring",
        "_rounds",
        "mode",
    )

    controls_rate: ClassVar[bool] = True

    def __init__(self, mss_bytes: int, group: CongestionGroup) -> None:
        super().__init__(mss_bytes, group)
        self.mode: int = STARTUP
        self._rounds = Rounds()
        self._bandwidth = Bandwidth()
        self._pipe = FullPipe()
        self._policer = Policer()
        self._aggregation = AckAggregation()
        self._least_rtt = LeastRtt()
        self._restoring = Restoring()
        self._cycle = Cycle()

    # The model.

    def bandwidth(self) -> int:
        """Return the path's bandwidth as it is taken to be (bytes per second)."""
        return self._policer.rate if self._policer.found else self._bandwidth.largest

    def pacing_gain(self) -> float:
        """Return what the bandwidth is multiplied by for pacing (bbr_update_gains)."""
        if self.mode == STARTUP:
            return HIGH_GAIN
        if self.mode == DRAIN:
            return DRAIN_GAIN
        if self.mode == PROBE_BW and not self._policer.found:
            return PROBE_GAINS[self._cycle.phase]
        return 1.0

    def window_gain(self) -> float:
        """Return what the product of bandwidth and round trip is multiplied by for the window."""
        if self.mode == PROBE_BW:
            return CWND_GAIN
        return 1.0 if self.mode == PROBE_RTT else HIGH_GAIN

    def on_send(self, now_ns: int, in_flight_bytes: int) -> None:
        """Begin to pace with the first round trip known (bbr_init_pacing_rate_from_rtt)."""
        super().on_send(now_ns, in_flight_bytes)
        if self.pacing_rate == 0 and self.srtt_ns > 0:
            self._least_rtt.take(self.srtt_ns, now_ns)
            self._aggregation.begin(now_ns)
            rate = self.cwnd_bytes * SECOND_NS // self.srtt_ns
            self.pacing_rate = int(rate * HIGH_GAIN * PACED_SHARE)

    def on_ack(self, ack: AckSample) -> None:
        """Bring the model up to date, then rate and window (bbr_main)."""
        if ack.srtt_ns:
            self.srtt_ns = ack.srtt_ns
        self._count_round(ack)
        self._rounds.started = False
        rate = ack.rate
        if rate.interval_ns > 0:
            self._take_rate(rate, ack.now_ns)
            self._aggregation.take(ack, self.bandwidth(), self.cwnd_bytes, self._rounds.started)
        if self.mode == PROBE_BW and self._phase_is_over(ack):
            self._cycle.advance(ack.now_ns)
        if self._rounds.started and not rate.app_limited:
            self._pipe.judge(self._bandwidth.largest)
        self._leave_startup(ack)
        self._watch_rtt(ack)
        self._set_pacing_rate(self.pacing_gain())
        self._set_window(ack)

    def _take_rate(self, rate: RateSample, now_ns: int) -> None:
        """bbr_update_bw and bbr_lt_bw_sampling."""
        rounds = self._rounds
        rounds.take(rate)
        if rounds.started:
            self._restoring.conserving = False
        if not self._policer.found:
            self._policer.sample(rate, rounds.started, now_ns)
        elif self.mode == PROBE_BW and self._policer.is_outdated(rounds.started):
            self._policer.forget()
            self._cycle.begin(now_ns)
        sampled = rate.delivered_bytes * SECOND_NS // rate.interval_ns
        if not rate.app_limited or sampled >= self._bandwidth.largest:
            self._bandwidth.take(sampled, rounds.count)

    def _phase_is_over(self, ack: AckSample) -> bool:
        """bbr_is_next_cycle_phase."""
        gain = self.pacing_gain()
        lasted = self._cycle.lasted_ns(ack.now_ns) > self._least_rtt.rtt_ns
        if gain == 1.0:
            return lasted
        in_flight_bytes = self._in_network_bytes(ack.rate.prior_in_flight_bytes, ack)
        if gain > 1.0:
            return lasted and (
                ack.rate.lost_bytes > 0 or in_flight_bytes >= self._target_bytes(gain)
            )
        return lasted or in_flight_bytes <= self._target_bytes(1.0)

    def _leave_startup(self, ack: AckSample) -> None:
        """bbr_check_drain."""
        if self.mode == STARTUP and self._pipe.reached:
            self.mode = DRAIN
            self.ssthresh_bytes = self._target_bytes(1.0)
        if self.mode == DRAIN and self._in_network_bytes(
            ack.in_flight_bytes, ack
        ) <= self._target_bytes(1.0):
            self._enter_probe_bw(ack.now_ns)

    def _enter_probe_bw(self, now_ns: int) -> None:
        self.mode = PROBE_BW
        self._cycle.begin(now_ns)

    def _watch_rtt(self, ack: AckSample) -> None:
        """bbr_update_min_rtt."""
        least_rtt = self._least_rtt
        if (
            least_rtt.take(ack.rtt_ns, ack.now_ns)
            and not least_rtt.after_idle
            and self.mode != PROBE_RTT
        ):
            self._restoring.save(self.cwnd_bytes, False)
            self.mode = PROBE_RTT
            least_rtt.begin_dip()
        if self.mode == PROBE_RTT:
            ack.rate.limit_by_application = True
            floor_bytes = LEAST_SEGMENTS * self.mss_bytes
            if least_rtt.dip(ack.in_flight_bytes, floor_bytes, self._rounds, ack):
                self._end_dip(ack.now_ns)
        if ack.rate.delivered_bytes > 0:
            least_rtt.after_idle = False

    def _end_dip(self, now_ns: int) -> None:
        self.cwnd_bytes = max(self.cwnd_bytes, self._restoring.window_bytes)
        if self._pipe.reached:
            self._enter_probe_bw(now_ns)
        else:
            self.mode = STARTUP

    # Rate and window.

    def _set_pacing_rate(self, gain: float) -> None:
        rate = int(self.bandwidth() * gain * PACED_SHARE)
        if self._pipe.reached or rate > self.pacing_rate:
            self.pacing_rate = rate

    def _burst_segments(self) -> int:
        """Return how many segments leave together (bbr_tso_segs_goal)."""
        burst_bytes = min(self.pacing_rate // BURST_DIVISOR, MOST_BURST_BYTES)
        least = 1 if self.pacing_rate < SLOW_BYTES_PER_S else 2
        return min(max(burst_bytes // self.mss_bytes, least), MOST_BURST_SEGMENTS)

    def _product_bytes(self, gain: float) -> int:
        """Return bandwidth times least round trip times a gain, in whole segments (bbr_bdp)."""
        rtt_ns = self._least_rtt.rtt_ns
        if rtt_ns == 0:
            return INITIAL_SEGMENTS * self.mss_bytes
        product_bytes = int(self.bandwidth() * rtt_ns / SECOND_NS * gain)
        return -(-product_bytes // self.mss_bytes) * self.mss_bytes

    def _with_bursts(self, window_bytes: int) -> int:
        """Add what waits at the ends as bursts (bbr_quantization_budget)."""
        segments = window_bytes // self.mss_bytes + 3 * self._burst_segments()
        segments += segments % 2
        if self.mode == PROBE_BW and self._cycle.phase == 0:
            segments += 2
        return segments * self.mss_bytes

    def _target_bytes(self, gain: float) -> int:
        return self._with_bursts(self._product_bytes(gain))

    def _in_network_bytes(self, in_flight_bytes: int, ack: AckSample) -> int:
        """Return what will be in the network when the next burst leaves (in_net_at_edt)."""
        wait_ns = max(ack.rate.next_send_ns - ack.now_ns, 0)
        delivered_bytes = self.bandwidth() * wait_ns // SECOND_NS
        if self.pacing_gain() > 1.0:
            in_flight_bytes += self._burst_segments() * self.mss_bytes
        return max(in_flight_bytes - delivered_bytes, 0)

    def _set_window(self, ack: AckSample) -> None:
        """bbr_set_cwnd."""
        mss_bytes = self.mss_bytes
        acked_bytes = ack.acked_bytes
        if acked_bytes > 0 and not self._conserve(ack):
            cwnd_bytes = self.cwnd_bytes
            target_bytes = self._product_bytes(self.window_gain())
            if self._pipe.reached:
                target_bytes += self._aggregation.extra_bytes(self.bandwidth())
            target_bytes = self._with_bursts(target_bytes)
            if self._pipe.reached:
                cwnd_bytes = min(cwnd_bytes + acked_bytes, target_bytes)
            elif (
                cwnd_bytes < target_bytes
                or ack.rate.total_delivered_bytes < INITIAL_SEGMENTS * mss_bytes
            ):
                cwnd_bytes += acked_bytes
            self.cwnd_bytes = max(cwnd_bytes, LEAST_SEGMENTS * mss_bytes)
        if self.mode == PROBE_RTT:
            self.cwnd_bytes = min(self.cwnd_bytes, LEAST_SEGMENTS * mss_bytes)

    def _conserve(self, ack: AckSample) -> bool:
        """Take the window down for losses, or back to what it was; say whether that is all.

        bbr_set_cwnd_to_recover_or_restore.
        """
        restoring = self._restoring
        recovering = ack.rate.recovering
        repairing = recovering or ack.rate.timed_out
        cwnd_bytes = max(self.cwnd_bytes - ack.rate.lost_bytes, self.mss_bytes)
        arriving_bytes = ack.in_flight_bytes + ack.acked_bytes
        if recovering and not restoring.recovering:
            restoring.conserving = True
            self._rounds.begin(ack.rate.total_delivered_bytes)
            cwnd_bytes = arriving_bytes
        elif restoring.repairing and not repairing:
            cwnd_bytes = max(cwnd_bytes, restoring.window_bytes)
            restoring.conserving = False
        restoring.recovering = recovering
        restoring.repairing = repairing
        if restoring.conserving:
            cwnd_bytes = max(cwnd_bytes, arriving_bytes)
        self.cwnd_bytes = cwnd_bytes
        return restoring.conserving

    def avoid_congestion(self, acked_bytes: int, ack: AckSample) -> None:
        """Nothing: the model sets the window."""

    # What happens besides.

    def on_loss_event(self, now_ns: int, flight_size_bytes: int) -> None:
        """Note the window, to return to it (bbr_ssthresh)."""
        self._restoring.save(self.cwnd_bytes, self.mode == PROBE_RTT)

    def on_mark(self, now_ns: int, flight_size_bytes: int) -> None:
        """Marks do not slow it."""

    def on_rto(self, now_ns: int, flight_size_bytes: int, first: bool) -> None:
        """Send a segment, and take it for the end of a round (bbr_set_state)."""
        if first:
            self._restoring.save(self.cwnd_bytes, self.mode == PROBE_RTT)
        self._restoring.recovering = False
        self._restoring.repairing = True
        self._pipe.forget()
        self.cwnd_bytes = self.mss_bytes

    def undo(self, now_ns: int) -> None:
        """The loss was none: look again whether the pipe is full (bbr_undo_cwnd)."""
        self._pipe.forget()
        self._policer.forget()

    def restart_after_idle(self, now_ns: int) -> None:
        """Keep the window: pacing spreads what leaves (tcp_slow_start_after_idle_check)."""

    def on_transmit_start(self, now_ns: int, idle_ns: int) -> None:
        """Pace at the bandwidth after a pause of the application's (bbr_cwnd_event)."""
        least_rtt = self._least_rtt
        least_rtt.after_idle = True
        self._aggregation.begin(now_ns)
        if self.mode == PROBE_BW:
            self._set_pacing_rate(1.0)
        elif self.mode == PROBE_RTT and least_rtt.may_end(now_ns):
            self._end_dip(now_ns)

    def penalise(self, now_ns: int) -> None:
        """Nothing: a smaller window would not stay."""
