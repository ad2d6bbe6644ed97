"""CUBIC with HyStart as Linux has it (net/ipv4/tcp_cubic.c), which hosts use by default.

It differs from RFC 9438 (``cubic-rfc9438``) where the kernel does. Windows are whole segments. The
curve is aimed at the least round trip ahead. The window grows towards Reno's, and not at once. It
grows by 5 % a round trip at least while nothing was ever lost, and slow start ends by HyStart
(``hybrid_slow_start``).  How fast it is to grow is not looked at again for 31 ms where it has not
grown, so that on paths of a millisecond or less a loss costs more than RFC 9438 has it.
"""

from __future__ import annotations

from typing import Final

from mptcplab.stack.congestion.base import AckSample, CongestionControl, CongestionGroup
from mptcplab.stack.congestion.hybrid_slow_start import HybridSlowStart

BETA_1024: Final = 717
"""What a loss leaves of the window, in parts of 1024 (beta)."""
CUBIC_C: Final = 410 / 1024
"""Segments per second cubed (cube_rtt_scale)."""
RENO_WINDOWS: Final = 15 / 8
"""Windows acknowledged for each segment that Reno's window grows by (beta_scale)."""
UNPROVEN_COUNT: Final = 20
"""While no loss has shown what the path holds, a segment for 20 acknowledged at least."""
LEAST_COUNT: Final = 2
"""A segment for two acknowledged at most: half of the window a round trip."""
FLAT_FACTOR: Final = 100
"""On the plateau, a segment for so many windows acknowledged."""
JIFFY_NS: Final = 4_000_000
"""The kernel's clock tick; the curve is looked at once in each (HZ = 250, kernel/Kconfig.hz)."""
UNCHANGED_JIFFIES: Final = 250 // 32
"""A window that has not changed is looked at again after more than these (HZ / 32)."""
SETTLING_NS: Final = 1_000_000_000
"""Round trips are not looked at for so long after recovery."""


class Curve:
    """For how many segments acknowledged the window grows by one (bictcp_update)."""

    __slots__ = (
        "_acked_segments",
        "_count",
        "_epoch_ns",
        "_k_s",
        "_looked_at_jiffies",
        "_looked_at_segments",
        "_origin_segments",
        "_reno_segments",
        "last_max_segments",
    )

    def __init__(self) -> None:
        self.last_max_segments: int = 0
        """The window before the last loss, or somewhat less (last_max_cwnd); 0 before it."""
        self._epoch_ns: int = -1
        """When the current congestion avoidance began; -1 while there is none."""
        self._k_s: float = 0.0
        self._origin_segments: int = 0
        """Where the plateau of the curve is (bic_origin_point)."""
        self._reno_segments: int = 0
        """The window that Reno would have (tcp_cwnd)."""
        self._acked_segments: float = 0.0
        """Acknowledged since Reno's window last grew (ack_cnt)."""
        self._count: int = 0
        """The window grows by a segment for so many acknowledged (cnt)."""
        self._looked_at_segments: int = 0
        """The window when the curve was last looked at (last_cwnd)."""
        self._looked_at_jiffies: int = 0
        """When that was (last_time)."""

    def count(self, now_ns: int, segments: int, acked_segments: float, min_rtt_ns: int) -> int:
        """Return how many are acknowledged for each segment that the window is to grow by.

        ``segments`` is the window, ``acked_segments`` what the ACK acknowledges.
        """
        self._acked_segments += acked_segments
        jiffies = now_ns // JIFFY_NS
        since_jiffies = jiffies - self._looked_at_jiffies
        if segments != self._looked_at_segments or since_jiffies > UNCHANGED_JIFFIES:
            if self._epoch_ns < 0 or since_jiffies > 0:
                self._looked_at_segments = segments
                self._looked_at_jiffies = jiffies
                self._look(now_ns, segments, acked_segments, min_rtt_ns)
            self._look_at_reno(segments)
        return max(self._count, LEAST_COUNT)

    def lose(self, segments: int) -> None:
        """Note the window as the next plateau, a lower one if it shrank."""
        if segments < self.last_max_segments:
            segments = segments * (1024 + BETA_1024) // 2048
        self.last_max_segments = segments
        self._epoch_ns = -1

    def forget(self) -> None:
        """Begin anew, as after a timeout."""
        self.last_max_segments = 0
        self._epoch_ns = -1
        self._looked_at_segments = 0

    def move_on(self, now_ns: int, idle_ns: int) -> None:
        """Leave out the time in which nothing was sent."""
        if self._epoch_ns >= 0:
            self._epoch_ns = min(self._epoch_ns + idle_ns, now_ns)

    def age_ns(self, now_ns: int) -> int:
        """Return how long ago congestion avoidance began; -1 while there is none."""
        return now_ns - self._epoch_ns if self._epoch_ns >= 0 else -1

    def _look(self, now_ns: int, segments: int, acked_segments: float, min_rtt_ns: int) -> None:
        if self._epoch_ns < 0:
            self._epoch_ns = now_ns
            self._acked_segments = acked_segments
            self._reno_segments = segments
            self._origin_segments = max(self.last_max_segments, segments)
            self._k_s = ((self._origin_segments - segments) / CUBIC_C) ** (1.0 / 3.0)
        offset_s = (now_ns - self._epoch_ns + min_rtt_ns) / 1e9 - self._k_s
        change = int(CUBIC_C * abs(offset_s) ** 3)
        ahead = self._origin_segments + (change if offset_s > 0.0 else -change) - segments
        self._count = segments // ahead if ahead > 0 else FLAT_FACTOR * segments
        if self.last_max_segments == 0 and self._count > UNPROVEN_COUNT:
            self._count = UNPROVEN_COUNT

    def _look_at_reno(self, segments: int) -> None:
        grown = int(self._acked_segments / (RENO_WINDOWS * segments))
        self._acked_segments -= grown * RENO_WINDOWS * segments
        self._reno_segments += grown
        behind = self._reno_segments - segments
        if behind > 0 and segments // behind < self._count:
            self._count = segments // behind


class LinuxCubic(CongestionControl):
    """The kernel's CUBIC, uncoupled."""

    __slots__ = ("_credit_segments", "_curve", "_hybrid", "_min_rtt_ns")

    def __init__(self, mss_bytes: int, group: CongestionGroup) -> None:
        super().__init__(mss_bytes, group)
        self._hybrid = HybridSlowStart()
        self._curve = Curve()
        self._credit_segments: float = 0.0
        """Acknowledged since the window last grew (snd_cwnd_cnt)."""
        self._min_rtt_ns: int = 0
        """delay_min; 0 before the first sample."""

    def on_ack(self, ack: AckSample) -> None:
        """See whether slow start is to end, then open the window."""
        rtt_ns = ack.rtt_ns
        age_ns = self._curve.age_ns(ack.now_ns)
        if rtt_ns > 0 and (age_ns < 0 or age_ns >= SETTLING_NS):
            if self._min_rtt_ns == 0 or rtt_ns < self._min_rtt_ns:
                self._min_rtt_ns = rtt_ns
            if not (self._hybrid.found or ack.in_recovery) and self.in_slow_start():
                stop_bytes = self._hybrid.window_to_stop_at(
                    ack, self.cwnd_bytes, self.mss_bytes, self._min_rtt_ns
                )
                if stop_bytes:
                    self.ssthresh_bytes = stop_bytes
        super().on_ack(ack)

    def avoid_congestion(self, acked_bytes: int, ack: AckSample) -> None:
        """Add a whole segment for as many acknowledged as the curve says.

        As tcp_cong_avoid_ai in net/ipv4/tcp_cong.c does.
        """
        acked_segments = acked_bytes / self.mss_bytes
        segments = self.cwnd_bytes // self.mss_bytes
        count = self._curve.count(ack.now_ns, segments, acked_segments, self._min_rtt_ns)
        more = 0
        if self._credit_segments >= count:
            self._credit_segments = 0.0
            more = 1
        self._credit_segments += acked_segments
        whole = int(self._credit_segments / count)
        self._credit_segments -= whole * count
        self.cwnd_bytes += (more + whole) * self.mss_bytes

    def on_transmit_start(self, now_ns: int, idle_ns: int) -> None:
        """Move the curve on by the time in which nothing was sent."""
        self._curve.move_on(now_ns, idle_ns)

    def ssthresh_after_loss(self, flight_bytes: int) -> int:
        """Return beta of the window, at least two segments."""
        return max(self.cwnd_bytes * BETA_1024 // 1024, 2 * self.mss_bytes)

    def on_loss_event(self, now_ns: int, flight_size_bytes: int) -> None:
        """Note the window as the next plateau, a lower one if it shrank, and reduce it."""
        self._curve.lose(self.cwnd_bytes // self.mss_bytes)
        self._credit_segments = 0.0
        super().on_loss_event(now_ns, flight_size_bytes)

    def on_rto(self, now_ns: int, flight_size_bytes: int, first: bool) -> None:
        """Fall back to one segment and forget all but where slow start is to end."""
        super().on_rto(now_ns, flight_size_bytes, first)
        self._curve.forget()
        self._credit_segments = 0.0
        self._min_rtt_ns = 0
        self._hybrid.restart()
