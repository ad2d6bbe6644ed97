"""HyStart as Linux's CUBIC has it (net/ipv4/tcp_cubic.c): two signs that end slow start.

Ha and Rhee, "Taming the Elephants: New TCP Slow Start" (Computer Networks 55, 2011). The ACKs of a
window that come closely one after another for half a round trip show that the window fills half of
the path, and one doubling is left; and round trips that grow show a queue. ``hystart`` has the
later HyStart++ of RFC 9406, which takes the second sign alone and goes on more slowly.
"""

from __future__ import annotations

from typing import Final

from mptcplab.stack.congestion.base import AckSample

LOW_WINDOW_SEGMENTS: Final = 16
"""Smaller windows are left alone (hystart_low_window)."""
ACK_GAP_NS: Final = 2_000_000
"""ACKs that follow within this time are one train (hystart_ack_delta_us)."""
FEWEST_SAMPLES: Final = 8
"""Round trips to see before they are judged (HYSTART_MIN_SAMPLES)."""
LEAST_INCREASE_NS: Final = 4_000_000
MOST_INCREASE_NS: Final = 16_000_000
"""An increase by an eighth of the least round trip, within these bounds, shows a queue
(HYSTART_DELAY_MIN, HYSTART_DELAY_MAX)."""
LARGEST_BURST_BYTES: Final = 65_536
"""sk_gso_max_size of common interfaces."""
MOST_BURST_NS: Final = 1_000_000
"""ACKs may come later by what four bursts take at the pacing rate, and no more than this
(hystart_ack_delay)."""
PACED_WINDOWS: Final = 2
"""The pacing rate of slow start is two windows a round trip (tcp_pacing_ss_ratio)."""
SEGMENTS_BETWEEN_ACKS: Final = 2
"""An ACK answers every second one (RFC 5681 section 4.2)."""


class HybridSlowStart:
    """Watches the ACKs of slow start; tell it each that measures a round trip, in order."""

    __slots__ = (
        "_last_ack_ns",
        "_least_ns",
        "_round_left_bytes",
        "_round_start_ns",
        "_samples",
        "found",
    )

    def __init__(self) -> None:
        self.found: bool = False
        """It has ended slow start, and looks no further."""
        self._round_left_bytes: int = 0
        self._round_start_ns: int = 0
        self._last_ack_ns: int = 0
        self._least_ns: int = 0
        """The least round trip of this round, 0 before the first."""
        self._samples: int = 0

    def restart(self) -> None:
        """Look again from the next ACK on, after a timeout."""
        self.found = False
        self._round_left_bytes = 0

    def window_to_stop_at(
        self, ack: AckSample, cwnd_bytes: int, mss_bytes: int, min_rtt_ns: int
    ) -> int:
        """Return the window at which slow start is to end (bytes); 0 to go on.

        ``min_rtt_ns`` is the least round trip of the connection. An ACK for a train stands for
        ACKs over ``ack.spread_ns``, and the window is where it was at the one that decides.
        """
        acked_bytes = ack.acked_bytes
        left_bytes = self._round_left_bytes
        self._round_left_bytes = left_bytes - acked_bytes
        if self._round_left_bytes < 0:
            late_ns = ack.spread_ns * (acked_bytes - left_bytes) // acked_bytes
            self._begin_round(ack.now_ns - late_ns, ack.in_flight_bytes)
        if cwnd_bytes < LOW_WINDOW_SEGMENTS * mss_bytes:
            return 0
        stop_bytes = self._judge_train(ack, cwnd_bytes, mss_bytes, min_rtt_ns)
        if stop_bytes == 0 and self._delay_grows(ack, mss_bytes, min_rtt_ns):
            stop_bytes = cwnd_bytes
        self.found = stop_bytes > 0
        return stop_bytes

    def _begin_round(self, now_ns: int, in_flight_bytes: int) -> None:
        self._round_start_ns = now_ns
        self._last_ack_ns = now_ns
        self._round_left_bytes = in_flight_bytes
        self._least_ns = 0
        self._samples = 0

    def _judge_train(self, ack: AckSample, cwnd_bytes: int, mss_bytes: int, min_rtt_ns: int) -> int:
        """Return the window at which the ACKs of this round have come for half a round trip."""
        spread_ns = ack.spread_ns
        first_ns = ack.now_ns - spread_ns
        acked_bytes = ack.acked_bytes
        if (
            first_ns - self._last_ack_ns > ACK_GAP_NS
            or spread_ns * SEGMENTS_BETWEEN_ACKS * mss_bytes > ACK_GAP_NS * acked_bytes
        ):
            return 0
        self._last_ack_ns = ack.now_ns
        burst_ns = 4 * LARGEST_BURST_BYTES * ack.srtt_ns // (PACED_WINDOWS * cwnd_bytes)
        half_ns = (min_rtt_ns + min(burst_ns, MOST_BURST_NS)) // 2
        enough_ns = self._round_start_ns + half_ns
        if ack.now_ns <= enough_ns:
            return 0
        if first_ns >= enough_ns:
            return cwnd_bytes
        return cwnd_bytes + acked_bytes * (enough_ns - first_ns) // spread_ns

    def _delay_grows(self, ack: AckSample, mss_bytes: int, min_rtt_ns: int) -> bool:
        """Say whether the round trips of this round are all longer than a path without a queue."""
        if self._least_ns == 0 or ack.rtt_ns < self._least_ns:
            self._least_ns = ack.rtt_ns
        if self._samples < FEWEST_SAMPLES:
            self._samples += max(1, ack.acked_bytes // (SEGMENTS_BETWEEN_ACKS * mss_bytes))
            return False
        increase_ns = min(max(min_rtt_ns // 8, LEAST_INCREASE_NS), MOST_INCREASE_NS)
        return self._least_ns > min_rtt_ns + increase_ns
