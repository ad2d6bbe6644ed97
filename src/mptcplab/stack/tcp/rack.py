"""RACK: which segments are lost, told from those sent later that have arrived (RFC 8985, 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.tcp.rtt import RttEstimator
from mptcplab.stack.tcp.sent import Sent, SentQueue
from mptcplab.stack.tcp.timers import Timers
from mptcplab.stack.tcp.timestamps import TICK_NS

if TYPE_CHECKING:
    from mypy_extensions import i64

DUP_THRESHOLD: Final = 3
"""DupThresh of RFC 6675 section 2 and RFC 8985 section 6.2."""

REORDER_PERSIST: Final = 16
"""RFC 8985 section 6.2: the reordering window falls back after 16 loss recoveries."""


class Rack:
    """The newest segment delivered, and how much reordering is allowed for."""

    __slots__ = (
        "_multiplier",
        "_newest_end",
        "_newest_resent",
        "_newest_rtt_ns",
        "_newest_sent_ns",
        "_persist",
        "_round_end",
    )

    def __init__(self) -> None:
        self._newest_sent_ns: i64 = -1
        """RACK.xmit_ts; -1 while nothing was delivered."""
        self._newest_end: i64 = 0
        """RACK.end_seq."""
        self._newest_resent: bool = False
        """Whether that was a retransmission."""
        self._newest_rtt_ns: i64 = 0
        """RACK.rtt."""
        self._multiplier: i64 = 1
        """RACK.reo_wnd_mult."""
        self._persist: i64 = REORDER_PERSIST
        self._round_end: i64 = -1

    def note_delivered(
        self, queue: SentQueue, min_rtt_ns: i64, echoed_sent_ns: i64, now_ns: i64
    ) -> None:
        """Take in what the ACK in hand delivered (RFC 8985 section 6.2, steps 1 and 2)."""
        newest_ns = queue.newest_sent_ns
        if newest_ns < 0:
            return
        age_ns = now_ns - newest_ns
        if queue.newest_resent and (
            age_ns < min_rtt_ns or (echoed_sent_ns >= 0 and echoed_sent_ns + TICK_NS <= newest_ns)
        ):
            return  # the original arrived, not what was sent again
        self._newest_rtt_ns = age_ns
        if newest_ns > self._newest_sent_ns or (
            newest_ns == self._newest_sent_ns and queue.newest_end > self._newest_end
        ):
            self._newest_sent_ns = newest_ns
            self._newest_end = queue.newest_end
            self._newest_resent = queue.newest_resent

    def note_duplicate_report(self, snd_una: i64, snd_nxt: i64) -> None:
        """A D-SACK: we retransmitted in vain; widen the window, once per round trip."""
        if self._round_end < 0 or snd_una >= self._round_end:
            self._round_end = snd_nxt
            self._multiplier += 1
            self._persist = REORDER_PERSIST

    def note_recovery_end(self) -> None:
        """A recovery ended; after some of them the window is what it was at first."""
        if self._persist > 0:
            self._persist -= 1
            if self._persist == 0:
                self._multiplier = 1

    def detect(
        self,
        queue: SentQueue,
        timers: Timers,
        rtt: RttEstimator,
        recovering: bool,
        mss_bytes: i64,
        now_ns: i64,
    ) -> i64:
        """Deem lost what was sent long enough before something that has arrived.

        RFC 8985 section 6.2, step 5. Returns how many bytes are newly lost, and sets the reordering
        timer for those that may be next.
        """
        timers.reorder_ns = NEVER_NS
        newest_ns = self._newest_sent_ns
        if newest_ns < 0:
            return 0
        window_ns = self._window_ns(queue, rtt, recovering, mss_bytes)
        newly_lost: i64 = 0
        following = queue.oldest
        while following is not None:
            record = following
            following = record.newer
            if record.lost and not record.retransmitted:
                queue.unlink(record)
                continue
            sent_ns = record.sent_ns
            if sent_ns > newest_ns or (sent_ns == newest_ns and self._is_later(record)):
                break
            deadline_ns = sent_ns + self._newest_rtt_ns + window_ns
            if deadline_ns > now_ns:
                timers.reorder_ns = deadline_ns
                break
            queue.unlink(record)
            newly_lost += queue.mark_lost(record)
        return newly_lost

    def _is_later(self, record: Sent) -> bool:
        """Say whether a record that left at the time of the newest delivered one left after it.

        Of new data and retransmissions, the latter: they follow limited transmit.
        """
        if record.retransmitted and not self._newest_resent:
            return True
        return record.end >= self._newest_end

    def _window_ns(
        self, queue: SentQueue, rtt: RttEstimator, recovering: bool, mss_bytes: i64
    ) -> i64:
        """Return RACK.reo_wnd (RFC 8985 section 6.2, step 4)."""
        if not queue.reordered and (recovering or queue.sacked_bytes >= DUP_THRESHOLD * mss_bytes):
            return 0
        window_ns = self._multiplier * rtt.min_rtt_ns // 4
        return window_ns if window_ns < rtt.srtt_ns else rtt.srtt_ns
