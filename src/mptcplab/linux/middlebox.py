"""Middleboxes that change or block TCP: what MPTCP must survive (RFC 8684 section 3.7 and 6).

A box works on batches of segments; *outbound* is the direction from its left to its right port.
``Relay`` puts a box between two TUN devices, for instance in two network namespaces;
``BoxedPort`` puts one before a device that our own stack uses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Final

from mptcplab.linux.sockets.tun_device import PACKETS_PER_WAKE, SegmentPort
from mptcplab.loop import RealTimeLoop
from mptcplab.seq import seq_add
from mptcplab.wire.packet import split_train
from mptcplab.wire.segment import MAX_TRAIN_BYTES, RST, SYN, Segment


class Middlebox(ABC):
    """Something on the path that may change, drop, split, merge or answer segments."""

    __slots__ = ()

    @abstractmethod
    def forward(self, segments: list[Segment], outbound: bool) -> list[Segment]:
        """Return what leaves the box for what came in, in order."""


class Chain(Middlebox):
    """Several boxes in a row, the first nearest the left port."""

    __slots__ = ("boxes",)

    def __init__(self, *boxes: Middlebox) -> None:
        self.boxes = boxes

    def forward(self, segments: list[Segment], outbound: bool) -> list[Segment]:
        for box in self.boxes if outbound else reversed(self.boxes):
            segments = box.forward(segments, outbound)
        return segments


class StripMptcp(Middlebox):
    """Removes MPTCP options of some subtypes: from SYNs, from the rest, or from all segments.

    ``after_bytes`` lets that much payload pass in a direction before it begins; ``outbound`` and
    ``inbound`` limit the directions.
    """

    __slots__ = ("_passed", "after_bytes", "inbound", "on_others", "on_syn", "outbound", "subtypes")

    def __init__(
        self,
        *subtypes: int,
        on_syn: bool = True,
        on_others: bool = True,
        outbound: bool = True,
        inbound: bool = True,
        after_bytes: int = 0,
    ) -> None:
        self.subtypes = frozenset(subtypes)
        self.on_syn = on_syn
        self.on_others = on_others
        self.outbound = outbound
        self.inbound = inbound
        self.after_bytes = after_bytes
        self._passed = {True: 0, False: 0}

    def forward(self, segments: list[Segment], outbound: bool) -> list[Segment]:
        if not (self.outbound if outbound else self.inbound):
            return segments
        for segment in segments:
            wanted = self.on_syn if segment.flags & SYN else self.on_others
            if wanted and self._passed[outbound] >= self.after_bytes:
                segment.mptcp = tuple(
                    option for option in segment.mptcp if option.subtype not in self.subtypes
                )
            self._passed[outbound] += segment.payload_bytes
        return segments


class RewritePayload(Middlebox):
    """Overwrites one byte of payload in a direction, once so much has passed, as often as told.

    The TCP checksum is right again afterwards; only the DSS checksum can tell.
    """

    __slots__ = ("_passed", "after_bytes", "outbound", "times")

    def __init__(self, *, outbound: bool = True, after_bytes: int = 0, times: int = 1) -> None:
        self.outbound = outbound
        self.after_bytes = after_bytes
        self.times = times
        self._passed = 0

    def forward(self, segments: list[Segment], outbound: bool) -> list[Segment]:
        if outbound is not self.outbound:
            return segments
        for segment in segments:
            due = self.times > 0 and self._passed >= self.after_bytes
            if due and segment.payload is not None:
                changed = bytearray(segment.payload)
                changed[len(changed) // 2] ^= 0x20
                segment.payload = bytes(changed)
                self.times -= 1
            self._passed += segment.payload_bytes
        return segments


class Split(Middlebox):
    """Cuts payloads into packets of at most ``size_bytes``, each with the options of the whole."""

    __slots__ = ("size_bytes",)

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def forward(
        self,
        segments: list[Segment],
        outbound: bool,  # noqa: ARG002  both directions alike
    ) -> list[Segment]:
        out: list[Segment] = []
        for segment in segments:
            segment.segment_size_bytes = self.size_bytes
            out += split_train(segment)
        return out


class Merge(Middlebox):
    """Joins packets of a flow that follow one another, keeping the options of the first.

    Packets whose MPTCP options differ stay apart, as receive offload has it, unless the box is
    ``blind``: then data lose their mapping, and the subflow cannot survive it.
    """

    __slots__ = ("blind", "max_bytes", "merged")

    def __init__(self, max_bytes: int = MAX_TRAIN_BYTES, *, blind: bool = False) -> None:
        self.max_bytes = max_bytes
        self.blind = blind
        self.merged = 0
        """How many packets vanished into the one before them."""

    def forward(
        self,
        segments: list[Segment],
        outbound: bool,  # noqa: ARG002  both directions alike
    ) -> list[Segment]:
        out: list[Segment] = []
        for segment in segments:
            last = out[-1] if out else None
            if last is None or not self._joins(last, segment):
                out.append(segment)
                continue
            self.merged += 1
            size = last.segment_size_bytes or last.payload_bytes
            last.payload = bytes(last.payload or b"") + bytes(segment.payload or b"")
            last.payload_bytes += segment.payload_bytes
            last.segment_size_bytes = size
            last.flags |= segment.flags
            last.ack, last.window = segment.ack, segment.window
        return out

    def _joins(self, last: Segment, segment: Segment) -> bool:
        return (
            last.payload_bytes > 0
            and segment.payload_bytes > 0
            and last.payload_bytes + segment.payload_bytes <= self.max_bytes
            and not (last.flags | segment.flags) & (SYN | RST)
            and segment.seq == seq_add(last.seq, last.payload_bytes)
            and (self.blind or last.mptcp == segment.mptcp)
            and (last.src, last.src_port, last.dst, last.dst_port)
            == (segment.src, segment.src_port, segment.dst, segment.dst_port)
        )


class ShiftSequence(Middlebox):
    """Adds a constant to the sequence numbers that leave, as firewalls that randomise them do."""

    __slots__ = ("offset",)

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def forward(self, segments: list[Segment], outbound: bool) -> list[Segment]:
        for segment in segments:
            if outbound:
                segment.seq = seq_add(segment.seq, self.offset)
            else:
                segment.ack = seq_add(segment.ack, -self.offset)
                segment.sack = tuple(
                    (seq_add(left, -self.offset), seq_add(right, -self.offset))
                    for left, right in segment.sack
                )
        return segments


_FIRST_NAT_PORT: Final = 20_000


class Nat(Middlebox):
    """Translates the source address and port of what leaves, and back for the answers.

    ``inside`` are the addresses behind the box; all leave as ``outside`` with ports of its own.
    What comes in and belongs to no flow is dropped.
    """

    __slots__ = ("_back", "_ports", "inside", "outside")

    def __init__(self, inside: Iterable[bytes], outside: bytes) -> None:
        self.inside = frozenset(inside)
        self.outside = outside
        self._ports: dict[tuple[bytes, int], int] = {}
        self._back: dict[int, tuple[bytes, int]] = {}

    def forward(self, segments: list[Segment], outbound: bool) -> list[Segment]:
        out: list[Segment] = []
        for segment in segments:
            if outbound and segment.src in self.inside:
                key = (segment.src, segment.src_port)
                port = self._ports.get(key)
                if port is None:
                    port = _FIRST_NAT_PORT + len(self._ports)
                    self._ports[key] = port
                    self._back[port] = key
                segment.src, segment.src_port = self.outside, port
            elif not outbound and segment.dst == self.outside:
                inside = self._back.get(segment.dst_port)
                if inside is None:
                    continue
                segment.dst, segment.dst_port = inside
            out.append(segment)
        return out


class Gate(Middlebox):
    """Lets everything pass, or, once ``closed``, what ``blocks`` does not hold back.

    Without ``blocks`` a closed gate drops everything: a cut cable.
    """

    __slots__ = ("blocks", "closed", "dropped")

    def __init__(self, blocks: Callable[[Segment], bool] | None = None) -> None:
        self.blocks = blocks
        self.closed = False
        self.dropped = 0

    def forward(
        self,
        segments: list[Segment],
        outbound: bool,  # noqa: ARG002  both directions alike
    ) -> list[Segment]:
        if not self.closed:
            return segments
        passed = [s for s in segments if self.blocks is not None and not self.blocks(s)]
        self.dropped += len(segments) - len(passed)
        return passed


class BoxedPort(SegmentPort):
    """A device behind a box: the box's left is whoever uses this port, its right the device."""

    __slots__ = ("box", "device")

    def __init__(self, device: SegmentPort, box: Middlebox) -> None:
        self.device = device
        self.box = box

    def fileno(self) -> int:
        return self.device.fileno()

    def read_segments(self, limit: int = PACKETS_PER_WAKE) -> list[Segment]:
        return self.box.forward(self.device.read_segments(limit), False)

    def write_segment(self, segment: Segment) -> None:
        for out in self.box.forward([segment], True):
            self.device.write_segment(out)


class Relay:
    """A box between two devices, served by a real-time loop."""

    __slots__ = ("box", "left", "right")

    def __init__(
        self, loop: RealTimeLoop, left: SegmentPort, right: SegmentPort, box: Middlebox
    ) -> None:
        self.left = left
        self.right = right
        self.box = box
        loop.add_reader(left.fileno(), self._outbound)
        loop.add_reader(right.fileno(), self._inbound)

    def _outbound(self) -> None:
        for segment in self.box.forward(self.left.read_segments(), True):
            self.right.write_segment(segment)

    def _inbound(self) -> None:
        for segment in self.box.forward(self.right.read_segments(), False):
            self.left.write_segment(segment)
