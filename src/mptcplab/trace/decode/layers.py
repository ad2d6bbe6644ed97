"""From the start of a packet to its innermost TCP header, many packets at once.

Each packet has a *kind*: the protocol of the header at its current position.  A step takes all
packets of one kind one layer further.  Tunnels are layers like others: the innermost TCP header
counts, as in Wireshark.  The steps are in ``link_layers``, ``ip`` and ``tunnels``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.address_book import AddressBook
from mptcplab.trace.columns.fields import PADDING, Bytes, Ints, Mask, u8
from mptcplab.trace.columns.sorting import distinct
from mptcplab.trace.files.batch import Batch
from mptcplab.wire.ip import ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_TCP

# A kind is an EtherType as it is, a LINKTYPE_ plus LINK, or an IP protocol plus PROTOCOL.
LINK: Final = 0x1_0000
PROTOCOL: Final = 0x10_0000
NOT_TCP: Final = -1
TCP: Final = PROTOCOL + PROTOCOL_TCP

IPV4: Final = ETHERTYPE_IPV4
IPV6: Final = ETHERTYPE_IPV6
MPLS: Final = 0x8847
ETHERNET: Final = LINK + 1
PPP: Final = LINK + 9
LLC: Final = LINK - 1  # IEEE 802.2, as it follows on many links
_MAX_LAYERS: Final = 24

_SHORT: Final = "the packet ends within its {} header"

Fragment = Callable[[tuple[int, ...], int, bool, bytes], bytes | None]
"""Given (datagram, offset, more, bytes) of a fragment; returns the datagram it completes."""


class Layers:
    """The walk of one batch from its link layer to TCP."""

    def __init__(self, batch: Batch, book: AddressBook, reassemble: Fragment) -> None:
        self.data: Bytes = batch.data
        self.book = book
        self._reassemble = reassemble
        size = len(batch)
        self.kind = (batch.link_type + LINK).astype(np.int32)
        self.at = batch.offset.copy()
        self.end: Ints = batch.offset + batch.captured
        """Where the captured bytes of the packet (or reassembled datagram) end."""
        self.limit: Ints = batch.offset + batch.original
        """Where the packet's bytes ended on the wire."""
        self.cut = batch.captured < batch.original
        self.source: Ints = np.zeros(size, dtype=np.int64)
        self.destination: Ints = np.zeros(size, dtype=np.int64)
        self.hops: Ints = np.zeros(size, dtype=np.int64)
        """Time to live, or hop limit, of the innermost IP header."""
        self.ip_id: Ints = np.full(size, -1, dtype=np.int64)
        """Identification of the innermost IPv4 header, -1 for IPv6."""
        self.malformed: list[tuple[int, str]] = []

    def run(self, steps: Mapping[int, Step]) -> Ints:
        """Walk to the TCP headers; returns the rows that have one, ``at`` pointing to it.

        ``steps`` says for each kind how to go one layer further; other kinds lead to no TCP.
        """
        for _ in range(_MAX_LAYERS):
            pending = np.flatnonzero((self.kind >= 0) & (self.kind != TCP))
            if pending.size == 0:
                break
            kinds = self.kind[pending]
            for kind in distinct(kinds).tolist() if (kinds != kinds[0]).any() else [kinds[0]]:
                step = steps.get(int(kind))
                chosen = pending[kinds == kind]
                if step is None:
                    self.kind[chosen] = NOT_TCP
                else:
                    step(self, chosen)
        else:
            for row in np.flatnonzero((self.kind >= 0) & (self.kind != TCP)).tolist():
                self.reject(np.array([row]), "more than 24 nested headers")
        located = np.flatnonzero(self.kind == TCP)
        # A header before it may state to be longer than the packet.
        self.at[located] = np.minimum(self.at[located], self.end[located])
        return located

    def reject(self, chosen: Ints, reason: str) -> None:
        """Report packets as malformed and leave them out."""
        self.kind[chosen] = NOT_TCP
        self.malformed.extend((row, reason) for row in chosen.tolist())

    def having(self, chosen: Ints, size: int | Ints, what: str) -> Ints:
        """Keep the packets with ``size`` more bytes; others are cut short, or malformed."""
        short = self.at[chosen] + size > self.end[chosen]
        if not short.any():
            return chosen
        lost = chosen[short]
        self.kind[lost] = NOT_TCP
        self.reject(lost[~self.cut[lost]], _SHORT.format(what))
        return chosen[~short]

    def fitting(self, chosen: Ints, size: int | Ints) -> Ints:
        """Keep the packets with ``size`` more bytes; shorter ones hold no TCP."""
        fits = self.at[chosen] + size <= self.end[chosen]
        if not fits.all():
            self.kind[chosen[~fits]] = NOT_TCP
        return chosen[fits]

    def advance(self, chosen: Ints, size: int | Ints, kind: int | NDArray[np.integer]) -> None:
        """Step over ``size`` bytes to a header of ``kind``."""
        self.at[chosen] += size
        self.kind[chosen] = kind

    def by_ip_version(self, chosen: Ints, size: int) -> None:
        """Step over ``size`` bytes to an IP header of the version it states."""
        chosen = self.having(chosen, size + 1, "IP")
        version = u8(self.data, self.at[chosen] + size) >> 4
        kind = np.where(version == 4, IPV4, np.where(version == 6, IPV6, NOT_TCP))
        self.advance(chosen, size, kind)

    def replace(self, row: int, datagram: bytes, kind: int) -> None:
        """Continue ``row`` in a reassembled datagram of which ``kind`` is the first header."""
        start = self.data.size
        extra = np.zeros(len(datagram) + PADDING, dtype=np.uint8)
        extra[: len(datagram)] = np.frombuffer(datagram, dtype=np.uint8)
        self.data = np.concatenate((self.data, extra))
        self.at[row] = start
        self.end[row] = self.limit[row] = start + len(datagram)
        self.cut[row] = False
        self.kind[row] = kind

    def fragment(self, chosen: Ints, offset: Ints, more: Mask, keys: list[tuple[int, ...]]) -> None:
        """Hand over fragments; ``kind`` and ``at`` are those of their payload already."""
        for row, start, last, key in zip(
            chosen.tolist(), offset.tolist(), (~more).tolist(), keys, strict=True
        ):
            kind = int(self.kind[row])
            at, end = int(self.at[row]), int(min(self.end[row], self.limit[row]))
            if self.limit[row] > self.end[row]:  # cut by the snap length: cannot be put together
                if start:
                    self.kind[row] = NOT_TCP
                continue
            self.kind[row] = NOT_TCP
            payload = self.data[at:end].tobytes()
            datagram = self._reassemble(key, start, not last, payload)
            if datagram is not None:
                self.replace(row, datagram, kind)


Step = Callable[[Layers, Ints], None]
"""Takes packets of one kind (rows of the batch) one layer further."""
