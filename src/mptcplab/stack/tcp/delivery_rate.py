"""How fast a path delivers: a sample for each ACK (net/ipv4/tcp_rate.c).

Cheng, Cardwell, Hassas Yeganeh, Jacobson: draft-cheng-iccrg-delivery-rate-estimation-00. Each train
notes how much had been delivered when it left. When it is delivered itself, the difference over the
time since then is a sample: over the time in which the window was sent, if that was longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.congestion.rate_sample import RateSample

if TYPE_CHECKING:
    from mypy_extensions import i64

FADING_SHIFT: Final = 8
"""Each ACK that comes alone takes this part of the time that trains of ACKs took: trains are tried
again in the end, of which the next one measures anew."""


class SentState:
    """What a train notes when it leaves."""

    __slots__ = ("app_limited", "delivered_bytes", "delivered_ns", "first_sent_ns")

    def __init__(self) -> None:
        self.delivered_bytes: i64 = 0
        self.delivered_ns: i64 = 0
        """When that was."""
        self.first_sent_ns: i64 = 0
        """When the window began to be sent."""
        self.app_limited: bool = False


class DeliveryRate:
    """The samples of one subflow, if its congestion control wants them."""

    __slots__ = (
        "_delivered_ns",
        "_first_sent_ns",
        "_limited_until_bytes",
        "_prior_ns",
        "_send_ns",
        "acks_bytes",
        "acks_spread_ns",
        "enabled",
        "sample",
    )

    def __init__(self) -> None:
        self.enabled: bool = False
        self.sample = RateSample()
        self._delivered_ns: i64 = 0
        """When something was last delivered."""
        self._first_sent_ns: i64 = 0
        """When that had left."""
        self._limited_until_bytes: i64 = 0
        """Samples are limited by the application until so much is delivered; 0: they are not."""
        self._prior_ns: i64 = -1
        """The time that the sample of the ACK at hand begins at; -1 while there is none."""
        self._send_ns: i64 = 0
        """How long it took to send what it delivers."""
        self.acks_bytes: i64 = 0
        """What the last train of ACKs acknowledged,"""
        self.acks_spread_ns: i64 = 0
        """and over what time they came; 0 before the first."""

    def note_acks(self, delivered_bytes: i64, spread_ns: i64) -> None:
        """ACKs have come over so long, a single one at once."""
        if spread_ns > 0:
            self.acks_bytes = delivered_bytes
            self.acks_spread_ns = spread_ns
        else:
            self.acks_spread_ns -= self.acks_spread_ns >> FADING_SHIFT

    def note_sent(self, out_bytes: i64, now_ns: i64) -> SentState:
        """Return what a train that leaves now notes; ``out_bytes`` are unacknowledged."""
        if out_bytes == 0:
            self._first_sent_ns = now_ns
            self._delivered_ns = now_ns
        state = SentState()
        state.delivered_bytes = self.sample.total_delivered_bytes
        state.delivered_ns = self._delivered_ns
        state.first_sent_ns = self._first_sent_ns
        state.app_limited = self._limited_until_bytes > 0
        return state

    def begin_ack(self, in_flight_bytes: i64) -> None:
        """An ACK comes."""
        self._prior_ns = -1
        self.sample.prior_in_flight_bytes = in_flight_bytes

    def note_delivered(self, state: SentState, sent_ns: i64, size_bytes: i64) -> None:
        """So much of a train is delivered, which left at ``sent_ns``; what left last counts."""
        sample = self.sample
        sample.total_delivered_bytes += size_bytes
        if self._prior_ns < 0 or sent_ns >= self._first_sent_ns:
            sample.prior_delivered_bytes = state.delivered_bytes
            sample.app_limited = state.app_limited
            self._prior_ns = state.delivered_ns
            self._first_sent_ns = sent_ns
            self._send_ns = sent_ns - state.first_sent_ns

    def note_lost(self, size_bytes: i64) -> None:
        """So much is deemed lost."""
        self.sample.total_lost_bytes += size_bytes

    def end_ack(self, min_rtt_ns: i64, now_ns: i64) -> None:
        """Work the sample out, of an ACK that delivered something."""
        sample = self.sample
        if 0 < self._limited_until_bytes < sample.total_delivered_bytes:
            self._limited_until_bytes = 0
        self._delivered_ns = now_ns
        sample.interval_ns = -1
        if self._prior_ns < 0:
            return
        sample.delivered_bytes = sample.total_delivered_bytes - sample.prior_delivered_bytes
        interval_ns = now_ns - self._prior_ns
        if interval_ns < self._send_ns:
            interval_ns = self._send_ns
        if interval_ns >= min_rtt_ns:  # what is faster was sent again in vain
            sample.interval_ns = interval_ns

    def limit(self, in_flight_bytes: i64) -> None:
        """What leaves until all that is in flight is delivered tells of the application."""
        until_bytes = self.sample.total_delivered_bytes + in_flight_bytes
        self._limited_until_bytes = until_bytes if until_bytes > 0 else 1
