"""HyStart++ (RFC 9406): leave slow start when the round trip grows, before the queue overflows.

The constants are those of section 4.3. Slow start at 1 Gb/s and 33 ms overshoots by thousands of
packets without it.
"""

from __future__ import annotations

from mptcplab.stack.congestion.base import AckSample

MIN_RTT_THRESH_NS = 4_000_000
MAX_RTT_THRESH_NS = 16_000_000
MIN_RTT_DIVISOR = 8
N_RTT_SAMPLE = 8
CSS_GROWTH_DIVISOR = 4
CSS_ROUNDS = 5


class HyStart:
    """Watches the round trips of one slow start; tell it every ACK, in order."""

    __slots__ = (
        "_conservative_rounds",
        "_least_before_ns",
        "_least_css_ns",
        "_least_ns",
        "_round",
        "_samples",
        "conservative",
        "done",
    )

    def __init__(self) -> None:
        self.conservative: bool = False
        """Growth is to be divided by ``CSS_GROWTH_DIVISOR`` (conservative slow start)."""
        self.done: bool = False
        """Slow start is over: ssthresh is to become cwnd."""
        self._round: int = 0
        self._samples: int = 0
        self._least_ns: int = 0
        self._least_before_ns: int = 0
        self._least_css_ns: int = 0
        self._conservative_rounds: int = 0

    def ends_slow_start(self, ack: AckSample, segments: int, rounds: int) -> bool:
        """Take an ACK for ``segments`` in the round trip numbered ``rounds``; return ``done``.

        An ACK for a train counts as a sample for each of its segments, as its packets would.
        """
        if rounds != self._round:
            self._begin_round(rounds)
        if ack.rtt_ns > 0:
            if self._least_ns == 0 or ack.rtt_ns < self._least_ns:
                self._least_ns = ack.rtt_ns
            self._samples += max(1, segments)
        if self._samples >= N_RTT_SAMPLE:
            self._judge()
        return self.done

    def _judge(self) -> None:
        if self.conservative:
            if self._least_ns < self._least_css_ns:
                self.conservative = False
                self._least_css_ns = 0
        elif self._least_before_ns > 0:
            threshold_ns = min(self._least_before_ns // MIN_RTT_DIVISOR, MAX_RTT_THRESH_NS)
            threshold_ns = max(threshold_ns, MIN_RTT_THRESH_NS)
            if self._least_ns >= self._least_before_ns + threshold_ns:
                self.conservative = True
                self._least_css_ns = self._least_ns
                self._conservative_rounds = 0

    def _begin_round(self, rounds: int) -> None:
        self._round = rounds
        self._least_before_ns = self._least_ns
        self._least_ns = 0
        self._samples = 0
        if self.conservative:
            self._conservative_rounds += 1
            if self._conservative_rounds >= CSS_ROUNDS:
                self.done = True
