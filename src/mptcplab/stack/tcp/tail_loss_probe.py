"""Tail loss probes: one segment sent again early where ACKs fail to come (RFC 8985, 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.tcp.sent import Sent, SentQueue
from mptcplab.stack.tcp.timers import Timers

if TYPE_CHECKING:
    from mypy_extensions import i64

MAX_ACK_DELAY_NS: Final = 200_000_000
"""TLP.max_ack_delay of RFC 8985 section 7.2."""

FIRST_PROBE_NS: Final = 1_000_000_000
"""RFC 8985 section 7.2: the PTO without an RTT sample is 1 second."""

SHORTEST_PROBE_NS: Final = 2_000_000
"""What the PTO has beyond two round trips (Linux: TCP_TIMEOUT_MIN_US, include/net/tcp.h): where
they are shorter than sending a window takes, as on a LAN, it would come before the ACKs can."""


class TailLossProbe:
    """The probe that is out, if one is."""

    __slots__ = ("_resent", "_timers", "end")

    def __init__(self, timers: Timers) -> None:
        self._timers: Timers = timers
        self._resent: bool = False
        """TLP.is_retrans: the probe repeats data."""
        self.end: i64 = -1
        """TLP.end_seq: ``snd_nxt`` when the probe left; -1 while none is out."""

    def forget(self) -> None:
        """Take no more notice of a probe that is out."""
        self.end = -1

    def arm(
        self, queue: SentQueue, recovering: bool, srtt_ns: i64, mss_bytes: i64, now_ns: i64
    ) -> None:
        """Schedule a probe, not later than the RTO (RFC 8985 section 7.2).

        There is none where something else will repair the tail.
        """
        if recovering or queue.sacked_bytes or self.end >= 0:
            self._timers.probe_ns = NEVER_NS
            return
        timeout_ns = 2 * srtt_ns
        if srtt_ns == 0:
            timeout_ns = FIRST_PROBE_NS
        if queue.out_bytes <= mss_bytes:
            timeout_ns += MAX_ACK_DELAY_NS
        else:
            timeout_ns += SHORTEST_PROBE_NS
        timers = self._timers
        deadline_ns = now_ns + timeout_ns
        timers.probe_ns = deadline_ns if deadline_ns < timers.rto_ns else timers.rto_ns

    def choose(self, queue: SentQueue, mss_bytes: i64) -> Sent | None:
        """Return what to repeat as a probe (RFC 8985 section 7.3): the last segment, or nothing.

        New data are better, where there are any: those who have them ask ``may_send`` first.
        """
        last = queue.last()
        if last is None or not self.may_send() or last.sacked or last.lost:
            return None
        size = last.end - last.seq
        if size > mss_bytes:
            queue.cut(last, last.seq + (size - 1) // mss_bytes * mss_bytes)
            last = queue.last()
        return last

    def may_send(self) -> bool:
        """Say whether no probe is out."""
        return self.end < 0

    def note_sent(self, snd_nxt: i64, resent: bool) -> None:
        """The probe has left, with new data or with data ``resent``."""
        self.end = snd_nxt
        self._resent = resent

    def was_duplicate(self, block_end: i64) -> bool:
        """A D-SACK came: say whether it speaks of the probe (RFC 8985 section 7.4.2)."""
        if self.end >= 0 and block_end >= self.end:
            self.end = -1
            return True
        return False

    def repaired_loss(self, ack: i64, duplicate: bool) -> bool:
        """An ACK came while a probe is out: say whether the probe repaired a loss (section 7.4).

        New data repair nothing: what else is lost shows in the ACK, and RACK finds it.
        """
        if not self._resent:
            if ack >= self.end:
                self.end = -1
            return False
        if ack <= self.end:
            if duplicate and ack == self.end:
                self.end = -1  # the original and the probe both arrived
            return False
        self.end = -1
        return True
