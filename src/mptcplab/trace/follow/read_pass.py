"""One pass over a capture: decode, follow, and keep what the reconstruction needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from mptcplab.trace.decode.segments import Decoder, Segments
from mptcplab.trace.files.batch import Damage, Span
from mptcplab.trace.files.capture import Progress
from mptcplab.trace.follow.announced_mappings import announced
from mptcplab.trace.follow.checksums import Checksums
from mptcplab.trace.follow.decoded import decoded
from mptcplab.trace.follow.mappings import Mappings
from mptcplab.trace.follow.placing import Placed, Placer
from mptcplab.trace.follow.samples import Samples
from mptcplab.trace.follow.tcp import Followed, Follower
from mptcplab.wire.mptcp import MptcpOption

_MOST_NOTES: Final = 4096
"""Options of each half that are kept; only a flood has more."""


@dataclass(slots=True)
class Note:
    """An MPTCP option other than DSS, where it was seen."""

    number: int
    time_ns: int
    half: int
    flags: int
    """TCP flags of its packet."""
    payload_bytes: int
    option: MptcpOption


@dataclass(slots=True, eq=False, repr=False)
class Reading:
    """What one pass over a capture keeps, in bounded memory however long the capture is."""

    decoder: Decoder = field(default_factory=Decoder)
    placer: Placer = field(default_factory=Placer)
    follower: Follower = field(default_factory=Follower)
    samples: Samples = field(default_factory=Samples)
    mappings: Mappings = field(default_factory=Mappings)
    checksums: Checksums = field(default_factory=Checksums)
    notes: list[Note] = field(default_factory=list)
    packets: int = 0
    tcp_segments: int = 0
    first_ns: int = 0
    last_ns: int = 0
    damage: list[Damage] = field(default_factory=list)
    _kept: dict[int, int] = field(default_factory=dict)

    @property
    def malformed(self) -> list[Damage]:
        """Packets that were left out, in order."""
        return sorted([*self.decoder.malformed, *self.damage], key=lambda damage: damage.number)

    def take(self, span: Span, segments: Segments, placed: Placed | None) -> Followed | None:
        """Take the next batch of packets, its TCP segments, and which of these are followed."""
        if not self.packets:
            self.first_ns = span.first_ns
        self.packets += span.packets
        self.last_ns = max(self.last_ns, span.last_ns)
        self.tcp_segments += len(segments)
        followed = None
        if placed is not None:
            followed = self.follower.follow(segments, placed)
            known = self.follower.halves["isn_known"]
            self.samples.add(segments, followed)
            mappings = announced(segments, followed)
            self.mappings.add(segments, followed, mappings, known, self.samples.resolution_ns)
            self.checksums.add(segments, followed, mappings, self.mappings.maps["shift"])
            self._take_notes(segments, followed)
        return followed

    def _take_notes(self, segments: Segments, followed: Followed) -> None:
        if not segments.options:
            return
        place = np.full(len(segments), -1, dtype=np.int64)
        place[followed.element] = np.arange(followed.element.size)
        for element, option in segments.options:
            k = int(place[element])
            if k < 0:
                continue
            half = int(followed.order.half[k])
            kept = self._kept.get(half, 0)
            self._kept[half] = kept + 1
            if kept < _MOST_NOTES:
                self.notes.append(
                    Note(
                        int(segments.number[element]),
                        int(segments.time_ns[element]),
                        half,
                        int(segments.flags[element]),
                        int(segments.payload_bytes[element]),
                        option,
                    )
                )


def read(paths: list[Path], progress: Progress | None = None) -> Reading:
    """Read captures from start to end; raises ``CaptureError`` for a file that is not one."""
    reading = Reading()
    batches = decoded(paths, reading.decoder, reading.placer, reading.damage, progress)
    for span, segments, placed in batches:
        reading.take(span, segments, placed)
    return reading
