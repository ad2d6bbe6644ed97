"""Boxes that take TCP options away, or the segments that have them."""

from __future__ import annotations

from mptcplab.middleboxes.selective import Selective
from mptcplab.wire.segment import Segment


class Strip(Selective):
    """Removes TCP options, as a firewall that replaces them by NOPs; the segment goes on."""

    __slots__ = ()

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:  # noqa: ARG002
        """Remove what the plan names."""
        tally = self.tallies[outbound]
        out = []
        for part, wanted in self.chosen(segment, outbound):
            if wanted and (removed := self._strip(part)):
                tally.changed += part.packets
                tally.stripped += removed * part.packets
            out.append(part)
        return out

    def _strip(self, segment: Segment) -> int:
        """Remove the options from a segment; return how many of each of its packets."""
        names = set(self._options)
        before = len(segment.mptcp)
        if "MPTCP" in names:
            segment.mptcp = ()
        elif self._subtypes:
            segment.mptcp = tuple(
                option for option in segment.mptcp if option.subtype not in self._subtypes
            )
        removed = before - len(segment.mptcp)
        if "MSS" in names and segment.mss is not None:
            segment.mss = None
            removed += 1
        if "WINDOW_SCALE" in names and segment.wscale is not None:
            segment.wscale = None
            removed += 1
        if "SACK_PERMITTED" in names and segment.sack_permitted:
            segment.sack_permitted = False
            removed += 1
        if "SACK" in names and segment.sack:
            segment.sack = ()
            removed += 1
        if "TIMESTAMPS" in names and segment.ts_val is not None:
            segment.ts_val = None
            removed += 1
        if "UNKNOWN" in names:
            removed += len(segment.raw_options)
            segment.raw_options = ()
        return removed


class Drop(Selective):
    """Drops the segments that the plan names; all of them where it names none (a black hole)."""

    __slots__ = ()

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:  # noqa: ARG002
        """Drop what the plan names."""
        out = []
        for part, wanted in self.chosen(segment, outbound):
            if wanted:
                self.tallies[outbound].dropped += part.packets
            else:
                out.append(part)
        return out
