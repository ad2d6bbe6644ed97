"""Round-trip time estimation and the retransmission timeout (RFC 6298)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.config import INITIAL_RTO_NS, MAX_RTO_NS, MIN_RTO_NS

if TYPE_CHECKING:
    from mypy_extensions import i64

LOST_SYN_RTO_NS: Final = 3_000_000_000
"""RFC 6298 (5.7): the RTO when data transmission begins after a SYN that was sent again."""

MIN_RTT_WINDOW_NS: Final = 300_000_000_000
"""How long a minimum stands; Linux's tcp_min_rtt_wlen, 300 seconds."""

MOST_SAMPLES: Final = 32
"""Of what was smoothed before so many samples, (7/8)^32 is left: 1.4 %."""


class RttEstimator:
    """Smoothed RTT, its variation, the RTO with its backoff, and the windowed minimum RTT.

    All times are nanoseconds; ``srtt_ns`` is 0 until the first sample.
    """

    __slots__ = (
        "_base_rto_ns",
        "_max_rto_ns",
        "_min_rto_ns",
        "_min_since_ns",
        "_no_way_since_ns",
        "backoff",
        "min_rtt_ns",
        "rto_ns",
        "rttvar_ns",
        "srtt_ns",
        "timeouts",
    )

    def __init__(
        self,
        initial_rto_ns: i64 = INITIAL_RTO_NS,
        min_rto_ns: i64 = MIN_RTO_NS,
        max_rto_ns: i64 = MAX_RTO_NS,
    ) -> None:
        self._min_rto_ns: i64 = min_rto_ns
        self._max_rto_ns: i64 = max_rto_ns
        self._base_rto_ns: i64 = initial_rto_ns
        self._min_since_ns: i64 = 0
        self._no_way_since_ns: i64 = -1
        """When a doubling of the RTO was first taken back, -1 for never since the last sample."""
        self.rto_ns: i64 = initial_rto_ns
        self.srtt_ns: i64 = 0
        self.rttvar_ns: i64 = 0
        self.min_rtt_ns: i64 = 0
        self.backoff: i64 = 0
        """How often the RTO has been doubled since the last sample, less what was taken back."""
        self.timeouts: i64 = 0
        """How many timeouts there were since."""

    def add_samples(self, first_ns: i64, last_ns: i64, count: i64, now_ns: i64) -> None:
        """Take ``count`` measurements in, from the first to the last one evenly.

        They also undo the backoff (RFC 6298 section 5). Of many only the last ones count: what
        was before them has been smoothed away.
        """
        if last_ns <= 0:
            last_ns = 1
        least_ns = first_ns if 0 < first_ns < last_ns else last_ns
        if (
            least_ns <= self.min_rtt_ns
            or self.min_rtt_ns == 0
            or now_ns - self._min_since_ns > MIN_RTT_WINDOW_NS
        ):
            self.min_rtt_ns = least_ns
            self._min_since_ns = now_ns
        left = count
        if left > MOST_SAMPLES:
            left = MOST_SAMPLES
        srtt = self.srtt_ns
        rttvar = self.rttvar_ns
        if srtt == 0:  # RFC 6298 (2.2)
            srtt = first_ns if count > 1 else last_ns
            rttvar = srtt >> 1
            left -= 1
        while left > 0:  # RFC 6298 (2.3), alpha = 1/8 and beta = 1/4
            left -= 1
            error = srtt - last_ns
            if left > 0:
                error -= (first_ns - last_ns) * left // (count - 1)
            rttvar += ((error if error >= 0 else -error) - rttvar) >> 2
            srtt -= error >> 3
        self.srtt_ns = srtt
        self.rttvar_ns = rttvar
        # Linux keeps 4 * RTTVAR at no less than the minimum RTO (tcp_rtt_estimator), so that the
        # RTO stays that much above the RTT on a path without jitter.
        spread = 4 * rttvar
        rto = srtt + (spread if spread > self._min_rto_ns else self._min_rto_ns)
        if rto > self._max_rto_ns:
            rto = self._max_rto_ns
        self._base_rto_ns = rto
        self.rto_ns = rto
        self._note_progress()

    def add_sample(self, rtt_ns: i64, now_ns: i64) -> None:
        """Take one measurement in."""
        self.add_samples(rtt_ns, rtt_ns, 1, now_ns)

    def back_off(self) -> None:
        """Double the RTO after a timeout (RFC 6298 (5.5))."""
        self.timeouts += 1
        self.backoff += 1
        doubled = self.rto_ns * 2
        self.rto_ns = doubled if doubled < self._max_rto_ns else self._max_rto_ns

    def revert_backoff(self, now_ns: i64) -> None:
        """Take back the last doubling of the RTO (RFC 6069 section 4.2)."""
        if self._no_way_since_ns < 0:
            self._no_way_since_ns = now_ns
        self.backoff -= 1
        rto = self._base_rto_ns << self.backoff
        self.rto_ns = rto if rto < self._max_rto_ns else self._max_rto_ns

    def is_given_up(self, retries: i64, now_ns: i64) -> bool:
        """Say whether so many timeouts have passed, or as much time as they would take.

        The latter where doublings were taken back (Linux's retransmits_timed_out).
        """
        if self.backoff >= retries or self._no_way_since_ns < 0:
            return self.backoff >= retries
        patience_ns: i64 = 0
        rto = self._base_rto_ns
        for _ in range(retries + 1):
            patience_ns += rto
            rto = 2 * rto if 2 * rto < self._max_rto_ns else self._max_rto_ns
        return now_ns - self._no_way_since_ns >= patience_ns

    def restart_unsampled(self) -> None:
        """Begin to send data after a handshake that left no sample (RFC 6298 (5.7))."""
        self._note_progress()
        self._base_rto_ns = max(self._base_rto_ns, min(LOST_SYN_RTO_NS, self._max_rto_ns))
        self.rto_ns = self._base_rto_ns

    def reset_backoff(self) -> None:
        """Return to the unbacked-off RTO: progress was made though no sample could be taken.

        DEVIATION: RFC 6298 keeps the backed-off RTO until a new sample; Linux resets it on any
        acknowledgment of new data (tcp_ack), which is what makes a revived path usable at once.
        """
        if self.backoff:
            self.rto_ns = self._base_rto_ns
        self._note_progress()

    def _note_progress(self) -> None:
        self.backoff = 0
        self.timeouts = 0
        self._no_way_since_ns = -1
