"""The timestamps option of one subflow (RFC 7323 sections 3 to 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.seq import SEQ32_MASK, seq_lt
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

TICK_NS: Final = 1_000_000
"""Our timestamp clock: 1 ms, the rate RFC 7323 section 5.4 allows and Linux uses."""

OPTION_BYTES: Final = 12
"""The option with its padding (RFC 7323 appendix A)."""

IDLE_NS: Final = 24 * 86_400 * 1_000_000_000
"""RFC 7323 section 5.5: a TS.Recent older than 24 days is no longer valid."""


class Timestamps:
    """Our clock, and TS.Recent of the peer's."""

    __slots__ = ("_measured", "_recent_since_ns", "enabled", "offset", "recent", "round_trip_ns")

    def __init__(self, enabled: bool, offset: i64) -> None:
        self.enabled: bool = enabled
        """Offered, or after the handshake agreed."""
        self.offset: i64 = offset
        """What our clock is ahead of the caller's, in ticks."""
        self.recent: i64 = 0
        """TS.Recent."""
        self._recent_since_ns: i64 = 0
        self.round_trip_ns: i64 = 0
        """What a receiver measures by its own echoes (rcv_rtt_est of Linux), 0 for no sample."""
        self._measured: i64 = -1
        """The echo that was measured last: others that say the same came with later data."""

    def open_at(self, segment: Segment, now_ns: i64) -> None:
        """Take in the peer's SYN: both have to send the option."""
        if segment.ts_val is None:
            self.enabled = False
        elif self.enabled:
            self.recent = segment.ts_val
            self._recent_since_ns = now_ns

    def stamp(self, segment: Segment, now_ns: i64) -> None:
        """Put the option into a segment that leaves now."""
        segment.ts_val = (now_ns // TICK_NS + self.offset) & SEQ32_MASK
        segment.ts_ecr = self.recent

    def echoed_ns(self, segment: Segment, now_ns: i64) -> i64:
        """Return when the segment whose timestamp is echoed left, to a tick; -1 for no echo."""
        if segment.ts_val is None or not self.enabled:
            return -1
        ticks = now_ns // TICK_NS
        if seq_lt(ticks + self.offset, segment.ts_ecr):
            return -1
        age = (ticks + self.offset - segment.ts_ecr) & SEQ32_MASK
        return (ticks - age) * TICK_NS

    def measure(self, segment: Segment, now_ns: i64) -> None:
        """Take the round trip from a full segment of text (tcp_rcv_rtt_measure_ts of Linux).

        A shorter one counts at once, longer ones are smoothed by 1/8 (tcp_rcv_rtt_update).
        """
        if segment.ts_ecr == self._measured:
            return
        self._measured = segment.ts_ecr
        sent_ns = self.echoed_ns(segment, now_ns)
        sample_ns = now_ns // TICK_NS * TICK_NS - sent_ns
        if sent_ns < 0 or sample_ns <= 0:
            return
        before_ns = self.round_trip_ns
        if before_ns == 0 or sample_ns < before_ns:
            self.round_trip_ns = sample_ns
        else:
            self.round_trip_ns = before_ns + (sample_ns - before_ns) // 8

    def paws_rejects(self, ts_val: i64, now_ns: i64) -> bool:
        """Say whether a timestamp is older than TS.Recent (RFC 7323 section 5.3, R1)."""
        return seq_lt(ts_val, self.recent) and not self.recent_is_outdated(now_ns)

    def recent_is_outdated(self, now_ns: i64) -> bool:
        """Say whether TS.Recent is too old to judge by (RFC 7323 section 5.5)."""
        return now_ns - self._recent_since_ns >= IDLE_NS

    def note(self, ts_val: i64, now_ns: i64) -> None:
        """Take TS.Recent from a segment at or before what we acknowledged last (section 4.3).

        PAWS has not rejected it, so that it is later, or TS.Recent outdated.
        """
        self.recent = ts_val
        self._recent_since_ns = now_ns
