"""The window that a peer offers on one subflow, as its segments say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i64


class PeerWindow:
    """The scale, the last offer, and the largest there was."""

    __slots__ = ("_wl1", "_wl2", "field", "largest_bytes", "scale")

    def __init__(self) -> None:
        self.scale: i64 = 0
        """Snd.Wind.Shift of RFC 7323 section 2.3."""
        self.field: i64 = -1
        """The window field of the last segment, not scaled; -1 before the first."""
        self.largest_bytes: i64 = 0
        """MAX.SND.WND of RFC 5961 section 5.2."""
        self._wl1: i64 = 0
        """SND.WL1 and SND.WL2 of RFC 9293 section 3.3.1, in relative numbers."""
        self._wl2: i64 = 0

    def note(self, field: i64) -> None:
        """Take in the window field of an acceptable segment."""
        if field != self.field:
            self.field = field
            window = field << self.scale
            if window > self.largest_bytes:
                self.largest_bytes = window

    def is_update(self, seq: i64, ack: i64, snd_una: i64) -> bool:
        """Say whether SND.WND follows a segment (RFC 9293 section 3.10.7.4); remember that it did.

        Where MPTCP is spoken, the window belongs to the connection instead (RFC 8684 3.3.4).
        """
        if ack < snd_una or seq < self._wl1 or (seq == self._wl1 and ack < self._wl2):
            return False
        self._wl1 = seq
        self._wl2 = ack
        return True


class WindowProbes:
    """How many probes of a closed window went unanswered (RFC 9293 section 3.8.6.1)."""

    __slots__ = ("_last_ns", "unanswered")

    def __init__(self) -> None:
        self.unanswered: i64 = 0
        """Probes since anything acceptable arrived, less the last."""
        self._last_ns: i64 = 0

    def note_sent(self, last_receive_ns: i64, now_ns: i64) -> None:
        """One more probe leaves."""
        if last_receive_ns < self._last_ns:
            self.unanswered += 1
        else:
            self.unanswered = 0
        self._last_ns = now_ns
