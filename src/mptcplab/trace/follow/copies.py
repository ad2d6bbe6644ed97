"""Packets that were captured twice, as on all interfaces of a router or on a mirror port.

Both copies have the same header, the same text and the same IPv4 identification, which a sender
changes from packet to packet; a router between them has taken one from the time to live.  A
retransmission has another identification.  Where there is none (IPv6, or 0, or the same on all
packets), two packets are the same where a hop lies between them, or where most packets come twice;
for as long as they do so at the same time, as in files of one capture that overlap.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.columns.sorting import distinct
from mptcplab.trace.decode.segments import Segments

_APART_NS: Final = 1_000_000_000
"""Copies are not further apart; identifications come round after 65,536 packets."""
_TAIL: Final = 1024
"""Segments of a batch that may have copies in the next."""
_SYSTEMATIC: Final = 0.4
"""Share of the different segments without identification that come twice, where all do."""
_FEW: Final = 8
_BEARERS: Final = 2
"""Different packets of a batch that may have one identification by chance."""
_MULTIPLIERS: Final = (2_654_435_761, 0x9E3779B97F4A7C15 - (1 << 64), 40_503, 0x85EBCA6B)

_SAME: Final = (
    "source", "destination", "ports", "seq", "ack", "flags", "window", "payload_bytes", "ip_id",
    "timestamp",
)  # fmt: skip
_KEPT: Final = (*_SAME, "hops", "time_ns")


class Copies:
    """The copies in a capture, batch by batch."""

    def __init__(self) -> None:
        self.count = 0
        """Copies so far; the first packet of each kind is none."""
        self.across_hops = 0
        """Of them, those whose time to live differs from the first one's."""
        self._tail_keys: Ints = np.zeros(0, dtype=np.int64)
        self._tail: dict[str, Ints] = {}

    def find(self, segments: Segments) -> Mask | None:
        """Return which segments of a batch are copies of earlier ones, None where none is."""
        keys = _keys(segments)
        behind = self._tail_keys.size
        every = np.concatenate((self._tail_keys, keys)) if behind else keys
        ordered = np.sort(every)
        found = None
        if bool((ordered[1:] == ordered[:-1]).any()):
            found = self._verified(segments, every, behind)
        size = min(_TAIL, keys.size)
        self._tail_keys = keys[-size:].copy()
        self._tail = {name: part[-size:].copy() for name, part in _columns(segments).items()}
        return found

    def _verified(self, segments: Segments, every: Ints, behind: int) -> Mask | None:
        columns = _columns(segments)
        if behind:
            columns = {
                name: np.concatenate((self._tail[name], part)) for name, part in columns.items()
            }
        order = np.argsort(every, kind="stable")
        one, other = order[:-1], order[1:]
        alike = every[one] == every[other]
        one, other = one[alike], other[alike]
        for name in (*_SAME, "data_ack", "dsn"):
            same = columns[name][one] == columns[name][other]
            one, other = one[same], other[same]
        near = columns["time_ns"][other] - columns["time_ns"][one] <= _APART_NS
        one, other = one[near], other[near]
        hops = columns["hops"][one] != columns["hops"][other]
        different = order[np.append(True, ~alike)]
        names = _names(columns["ip_id"], different)
        doubtful = ~names[columns["ip_id"][other]] & ~hops
        if doubtful.any():
            nameless = different[~names[columns["ip_id"][different]]]
            if not _come_twice(every[other[doubtful]], nameless):
                at_once = doubtful & (columns["time_ns"][one] == columns["time_ns"][other])
                if at_once.any():
                    first, last = one[at_once].min(), other[at_once].max()
                    between = nameless[(nameless >= first) & (nameless <= last)]
                    if _come_twice(every[other[at_once]], between):
                        doubtful &= ~at_once
                other, hops = other[~doubtful], hops[~doubtful]
        fresh = other >= behind
        other, hops = other[fresh] - behind, hops[fresh]
        if other.size == 0:
            return None
        self.count += other.size
        self.across_hops += int(hops.sum())
        copies = np.zeros(len(segments), dtype=bool)
        copies[other] = True
        return copies


def _come_twice(twice: Ints, different: Ints) -> bool:
    """Tell whether the packets that come twice (keys of theirs) are most of the different ones."""
    return different.size >= _FEW and distinct(twice).size >= _SYSTEMATIC * different.size


def _columns(segments: Segments) -> dict[str, Ints]:
    columns = {name: getattr(segments, name) for name in _KEPT}
    columns["data_ack"], columns["dsn"] = segments.dss.data_ack, segments.dss.dsn
    return columns


def _names(ip_id: Ints, different: Ints) -> Mask:
    """Return of each identification (the last element stands for none) whether it names a packet.

    ``different`` holds one of the packets of each kind.
    """
    used = np.bincount(np.maximum(ip_id[different], 0), minlength=1 << 16)
    names: Mask = used <= _BEARERS + 4 * different.size // (1 << 16)
    names[0] = False
    return np.append(names, False)


def _keys(segments: Segments) -> Ints:
    """Return a number for each segment that differs where any of a few of its fields do."""
    key = segments.seq * _MULTIPLIERS[0]
    key += segments.ack * _MULTIPLIERS[1]
    key += segments.ports * _MULTIPLIERS[3]
    key += segments.ip_id * _MULTIPLIERS[2] + segments.payload_bytes
    key ^= segments.timestamp << 20
    return key
