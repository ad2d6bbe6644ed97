"""Batches of packets, into which every capture format is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Bytes, Ints

BATCH_PACKETS: Final = 32768
"""Most packets in a batch.

Together they carry less than 2^31 bytes (32768 packets of at most 64 KiB), so that within a batch
32-bit sequence numbers are unwrapped by their distance from one reference.
"""


class CaptureError(Exception):
    """A file that cannot be read as a capture; the text says which, why, and what to do."""

    exit_status = 2


@dataclass(slots=True)
class Damage:
    """A packet that was left out, or a place where the file is damaged."""

    number: int
    """The packet's number, counted from 1."""
    reason: str


@dataclass(slots=True)
class Span:
    """What remains of a batch once it is decoded."""

    packets: int
    first_ns: int
    """The time of its first packet."""
    last_ns: int
    """The latest time of any."""


@dataclass(slots=True, eq=False, repr=False)
class Batch:
    """Up to ``BATCH_PACKETS`` packets, their bytes still undecoded."""

    data: Bytes
    """Holds all packets; followed by ``PADDING`` bytes."""
    offset: Ints
    """Where each packet starts in ``data``."""
    captured: Ints
    """Bytes of each packet that were captured."""
    original: Ints
    """Bytes each packet had on the wire."""
    time_ns: Ints
    """Capture time since 1970, UTC."""
    link_type: NDArray[np.int32]
    """The LINKTYPE_ value of each packet's interface (tcpdump.org/linktypes.html)."""
    number: Ints
    """Each packet's number, from 1 and in order; in merged files, within the merged capture."""
    source: NDArray[np.int32]
    """Which of the merged files each packet is from."""

    def __len__(self) -> int:
        return self.offset.size

    def take(self, rows: Ints | slice) -> Batch:
        """Return the packets at ``rows``."""
        return Batch(
            self.data,
            self.offset[rows],
            self.captured[rows],
            self.original[rows],
            self.time_ns[rows],
            self.link_type[rows],
            self.number[rows],
            self.source[rows],
        )

    def span(self) -> Span:
        """Return how many packets there are, and their times."""
        if not len(self):
            return Span(0, 0, 0)
        return Span(len(self), int(self.time_ns[0]), int(self.time_ns.max()))
