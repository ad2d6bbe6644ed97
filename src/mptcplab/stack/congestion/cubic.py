"""CUBIC (RFC 9438), uncoupled; with or without HyStart++ (RFC 9406) in slow start.

Windows inside are in segments and times in seconds, as the RFC's formulas have them.
"""

from __future__ import annotations

from typing import Final

from mptcplab.stack.congestion.base import AckSample, CongestionControl, CongestionGroup
from mptcplab.stack.congestion.hystart import CSS_GROWTH_DIVISOR, HyStart

CUBIC_C: Final = 0.4
"""Aggressiveness, in segments per second cubed (RFC 9438, section 4.6 and 5.1)."""
CUBIC_BETA: Final = 0.7
"""What a loss leaves of the window (RFC 9438, section 4.6)."""
RENO_ALPHA: Final = 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA)
"""Increase that matches Reno's mean window with this beta (RFC 9438, section 4.3)."""


class Cubic(CongestionControl):
    """The cubic window, never below what Reno would have."""

    __slots__ = (
        "_before_loss_segments",
        "_epoch_ns",
        "_k_s",
        "_reno_segments",
        "_saved",
        "_timed_out",
        "_unused_since_ns",
        "_w_max_segments",
    )

    def __init__(self, mss_bytes: int, group: CongestionGroup) -> None:
        super().__init__(mss_bytes, group)
        self._w_max_segments: float = 0.0
        self._before_loss_segments: float = 0.0
        """cwnd_prior of the RFC."""
        self._reno_segments: float = 0.0
        """W_est of the RFC."""
        self._k_s: float = 0.0
        self._epoch_ns: int = -1
        """When the current congestion avoidance began; -1 while there is none."""
        self._unused_since_ns: int = -1
        """Since when the window was not used up; -1 while it is."""
        self._saved: tuple[int, float, float, float, float] = (-1, 0.0, 0.0, 0.0, 0.0)
        self._timed_out: bool = False

    def on_ack(self, ack: AckSample) -> None:
        """Open the window; time during which it was not needed does not count.

        RFC 9438, section 5.8: the epoch is moved on by such periods.
        """
        super().on_ack(ack)
        if self.window_was_used():
            self._unused_since_ns = -1
        else:
            if self._unused_since_ns >= 0 and self._epoch_ns >= 0:
                self._epoch_ns += ack.now_ns - self._unused_since_ns
            self._unused_since_ns = ack.now_ns

    def avoid_congestion(self, acked_bytes: int, ack: AckSample) -> None:
        """Move the window towards W_cubic(t + RTT), or to Reno's if that is larger."""
        segments = self.cwnd_bytes / self.mss_bytes
        acked = acked_bytes / self.mss_bytes
        if self._epoch_ns < 0:
            self._begin_epoch(ack.now_ns, segments)
        elapsed_s = (ack.now_ns - self._epoch_ns) / 1e9
        alpha = 1.0 if self._reno_segments >= self._before_loss_segments else RENO_ALPHA
        self._reno_segments += alpha * acked / segments
        if self._cubic(elapsed_s) < self._reno_segments:
            self.cwnd_bytes = max(self.cwnd_bytes, int(self._reno_segments * self.mss_bytes))
            return
        target = self._cubic(elapsed_s + self.srtt_ns / 1e9)
        target = min(max(target, segments), 1.5 * segments)
        self.grow((target - segments) / segments * acked_bytes)

    def ssthresh_after_loss(self, flight_bytes: int) -> int:
        """Return beta of the window used, at least two segments (RFC 9438, section 4.6)."""
        return max(int(flight_bytes * CUBIC_BETA), 2 * self.mss_bytes)

    def on_loss_event(self, now_ns: int, flight_size_bytes: int) -> None:
        """Note the window as the next plateau, lower if it shrank (section 4.7), and reduce."""
        self._save()
        self._note_plateau()
        super().on_loss_event(now_ns, flight_size_bytes)

    def on_rto(self, now_ns: int, flight_size_bytes: int, first: bool) -> None:
        """Reduce to one segment; the next plateau is where slow start ends (section 4.8)."""
        if first:
            self._save()
            self._note_plateau()
        self._timed_out = True
        self._epoch_ns = -1
        super().on_rto(now_ns, flight_size_bytes, first)

    def undo(self, now_ns: int) -> None:
        """Take back the last reduction with all that went with it (section 4.9)."""
        super().undo(now_ns)
        self._epoch_ns = self._saved[0]
        self._k_s = self._saved[1]
        self._w_max_segments = self._saved[2]
        self._reno_segments = self._saved[3]
        self._before_loss_segments = self._saved[4]
        self._timed_out = False

    def restart_after_idle(self, now_ns: int) -> None:
        """Return to the restart window and begin a new epoch when it is used up."""
        super().restart_after_idle(now_ns)
        self._epoch_ns = -1
        self._timed_out = True

    def on_transmit_start(self, now_ns: int, idle_ns: int) -> None:
        """Move the epoch on by the time in which nothing was sent (section 5.8)."""
        if self._epoch_ns >= 0:
            self._epoch_ns += now_ns - max(now_ns - idle_ns, self._unused_since_ns)
            self._unused_since_ns = -1

    def _begin_epoch(self, now_ns: int, segments: float) -> None:
        self._epoch_ns = now_ns
        self._reno_segments = segments
        if self._timed_out or self._w_max_segments <= segments:
            self._w_max_segments = segments
            self._k_s = 0.0
        else:
            self._k_s = ((self._w_max_segments - segments) / CUBIC_C) ** (1.0 / 3.0)
        self._timed_out = False

    def _cubic(self, elapsed_s: float) -> float:
        offset_s = elapsed_s - self._k_s
        return CUBIC_C * offset_s * offset_s * offset_s + self._w_max_segments

    def _note_plateau(self) -> None:
        segments = self.cwnd_bytes / self.mss_bytes
        self._before_loss_segments = segments
        if segments < self._w_max_segments:
            self._w_max_segments = segments * (1.0 + CUBIC_BETA) / 2.0
        else:
            self._w_max_segments = segments
        self._epoch_ns = -1

    def _save(self) -> None:
        self._saved = (
            self._epoch_ns,
            self._k_s,
            self._w_max_segments,
            self._reno_segments,
            self._before_loss_segments,
        )


class CubicHyStart(Cubic):
    """CUBIC whose first slow start ends by HyStart++."""

    __slots__ = ("_hystart",)

    def __init__(self, mss_bytes: int, group: CongestionGroup) -> None:
        super().__init__(mss_bytes, group)
        self._hystart: HyStart = HyStart()

    def slow_start(self, acked_bytes: int, ack: AckSample) -> int:
        """Grow by what was acknowledged, a quarter of it in conservative slow start."""
        hystart = self._hystart
        if hystart.done:
            return super().slow_start(acked_bytes, ack)
        if hystart.ends_slow_start(ack, acked_bytes // self.mss_bytes, self.rounds):
            self.ssthresh_bytes = self.cwnd_bytes
            return 0
        if not hystart.conservative:
            return super().slow_start(acked_bytes, ack)
        self.grow(min(acked_bytes / CSS_GROWTH_DIVISOR, self.ssthresh_bytes - self.cwnd_bytes))
        return acked_bytes

    def on_loss_event(self, now_ns: int, flight_size_bytes: int) -> None:
        """Reduce; later slow starts are the standard one (RFC 9406, section 4.3)."""
        self._hystart.done = True
        super().on_loss_event(now_ns, flight_size_bytes)

    def on_rto(self, now_ns: int, flight_size_bytes: int, first: bool) -> None:
        """Fall back; later slow starts are the standard one (RFC 9406, section 4.3)."""
        self._hystart.done = True
        super().on_rto(now_ns, flight_size_bytes, first)
