"""The TCP segment, or train of segments, that the stack, the simulator and the TUN driver exchange.

A :class:`Segment` may be a train: up to 64 KiB of payload standing for ``packets`` packets of
``segment_size_bytes`` each (the last may be shorter), all with the same options, as a host with
TCP segmentation offload hands them to its interface. FIN and PSH belong to the last packet of a
train, CWR to the first. ACKs without payload may be a train as well: ``ack_count`` of them, each of
which acknowledges ``ack_step_bytes`` more than the one before, and the last what ``ack`` says.

Addresses are packed bytes, 4 for IPv4 and 16 for IPv6 (``ip.parse_address`` and
``ip.format_address`` convert). Nothing is implicit: ``window`` is the 16-bit field before scaling,
and absent options are ``None``, ``False`` or an empty tuple.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mptcplab.compiling import mypyc_attr
from mptcplab.seq import seq_add
from mptcplab.wire.ip import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, format_address
from mptcplab.wire.mptcp import MPTCP_KIND, MptcpOption
from mptcplab.wire.text import format_flags, format_option

if TYPE_CHECKING:
    from mypy_extensions import i64

FIN: Final = 0x001
SYN: Final = 0x002
RST: Final = 0x004
PSH: Final = 0x008
ACK: Final = 0x010
URG: Final = 0x020
ECE: Final = 0x040
CWR: Final = 0x080

NOT_ECT: Final = 0
"""ECN codepoints of the IP header (RFC 3168 section 5)."""
ECT_1: Final = 1
ECT_0: Final = 2
CE: Final = 3

TCP_HEADER_BYTES: Final = 20  # RFC 9293 section 3.1, without options
MAX_OPTION_BYTES: Final = 40  # RFC 9293 section 3.1: data offset 15 words, less the fixed header

MAX_TRAIN_BYTES: Final = 65_455
"""Most payload of a train on a real device: the 16-bit IPv4 length less 20 + 60 header bytes."""


class RawOption:
    """A TCP option that this package does not interpret, kept as it came.

    ``raw`` holds the whole option with kind and length bytes.
    """

    __slots__ = ("kind", "raw")

    def __init__(self, kind: int, raw: bytes) -> None:
        self.kind = kind
        self.raw = raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RawOption) and self.kind == other.kind and self.raw == other.raw

    def __hash__(self) -> int:
        return hash((self.kind, self.raw))

    def __repr__(self) -> str:
        return f"RawOption(kind={self.kind}, raw={self.raw.hex()})"


class MalformedOption:
    """A TCP option that breaks its own format; ``reason`` says how. Receivers ignore it.

    ``kind`` is the TCP option kind (30 for MPTCP); ``subtype`` the MPTCP subtype, or ``None``.
    """

    __slots__ = ("kind", "raw", "reason", "subtype")

    def __init__(self, kind: int, subtype: int | None, raw: bytes, reason: str) -> None:
        self.kind = kind
        self.subtype = subtype
        self.raw = raw
        self.reason = reason

    def __repr__(self) -> str:
        return (
            f"MalformedOption(kind={self.kind}, subtype={self.subtype}, raw={self.raw.hex()}, "
            f"reason={self.reason!r})"
        )


@mypyc_attr(free_list_len=1)
class Segment:
    """One TCP segment or train of segments with its addresses; see the module's description."""

    __slots__ = (
        "ack",
        "ack_count",
        "ack_step_bytes",
        "burst_packets",
        "dscp",
        "dst",
        "dst_port",
        "ecn",
        "flags",
        "late_ns",
        "malformed",
        "mptcp",
        "mss",
        "payload",
        "payload_bytes",
        "piece_packets",
        "raw_options",
        "sack",
        "sack_permitted",
        "segment_size_bytes",
        "seq",
        "spread_ns",
        "src",
        "src_port",
        "ts_ecr",
        "ts_val",
        "window",
        "wscale",
    )

    def __init__(
        self,
        src: bytes,
        src_port: i64,
        dst: bytes,
        dst_port: i64,
        *,
        seq: i64 = 0,
        ack: i64 = 0,
        flags: i64 = 0,
        window: i64 = 0,
        payload_bytes: i64 = 0,
        payload: bytes | memoryview | None = None,
        segment_size_bytes: i64 = 0,
        mss: int | None = None,
        wscale: int | None = None,
        sack_permitted: bool = False,
        sack: tuple[tuple[int, int], ...] = (),
        ts_val: int | None = None,
        ts_ecr: i64 = 0,
        mptcp: tuple[MptcpOption, ...] = (),
        ecn: i64 = NOT_ECT,
        dscp: i64 = 0,
    ) -> None:
        self.src = src
        self.src_port: i64 = src_port
        self.dst = dst
        self.dst_port: i64 = dst_port
        self.seq: i64 = seq
        self.ack: i64 = ack
        self.flags: i64 = flags
        """The twelve bits after the data offset (``FIN`` .. ``CWR`` and the reserved ones)."""
        self.window: i64 = window
        """The 16-bit window field, unscaled."""
        self.payload_bytes: i64 = payload_bytes
        """Payload length, of the whole train."""
        self.payload = payload
        """The payload, or ``None`` where only its length matters (then it reads as zero bytes)."""
        self.segment_size_bytes: i64 = segment_size_bytes
        """Payload per packet of a train; 0 where the payload fits one packet."""
        self.mss = mss
        self.wscale = wscale
        self.sack_permitted = sack_permitted
        self.sack = sack
        """SACK blocks as (left edge, right edge)."""
        self.ts_val = ts_val
        """Timestamp value; ``None`` when the option is absent (``ts_ecr`` then means nothing)."""
        self.ts_ecr: i64 = ts_ecr
        self.mptcp = mptcp
        self.ecn: i64 = ecn
        """ECN codepoint of the IP header."""
        self.dscp: i64 = dscp
        """Differentiated services code point of the IP header (RFC 2474): the other six bits."""
        self.raw_options: tuple[RawOption, ...] = ()
        """TCP options of other kinds, kept as they came and sent as they are."""
        self.malformed: tuple[MalformedOption, ...] = ()
        """Options that broke their format, set by decoding and never sent."""
        self.ack_count: i64 = 1
        """How many ACKs it stands for, where it has no payload."""
        self.ack_step_bytes: i64 = 0
        """How much more each of them acknowledges, at both levels, than the one before."""
        self.spread_ns: i64 = 0
        """How long before its last packet the first one leaves, or came."""
        self.burst_packets: i64 = 1
        """How many of its packets leave at a time."""
        self.late_ns: i64 = 0
        """How long ago its last packet left: its sender learnt late that it could."""
        self.piece_packets: i64 = 0
        """How many of its packets may travel on a simulated link as one; 0: the link's affair."""

    @property
    def packets(self) -> i64:
        """How many packets this segment is on the wire."""
        size = self.segment_size_bytes
        if size <= 0 or self.payload_bytes <= size:
            if self.payload_bytes == 0:
                return self.ack_count
            return 1
        return (self.payload_bytes + size - 1) // size

    @property
    def sequence_length(self) -> i64:
        """Sequence space that the segment takes: payload, SYN and FIN (RFC 9293 section 3.4)."""
        return self.payload_bytes + (1 if self.flags & SYN else 0) + (1 if self.flags & FIN else 0)

    @property
    def option_bytes(self) -> i64:
        """Length of the encoded TCP options, with padding; may exceed ``MAX_OPTION_BYTES``."""
        length: i64 = 0
        if self.mss is not None:
            length += 4
        if self.wscale is not None:
            length += 3
        if self.sack_permitted:
            length += 2
        if self.ts_val is not None:
            length += 10
        if self.sack:
            length += 2 + 8 * len(self.sack)
        for option in self.mptcp:
            length += option.length_bytes
        for raw in self.raw_options:
            length += len(raw.raw)
        return (length + 3) & ~3

    @property
    def header_bytes(self) -> i64:
        """Bytes of IP and TCP header, with options, on each packet of this segment."""
        ip_bytes: i64 = IPV4_HEADER_BYTES if len(self.src) == 4 else IPV6_HEADER_BYTES
        return ip_bytes + TCP_HEADER_BYTES + self.option_bytes

    @property
    def wire_bytes(self) -> i64:
        """Bytes on the wire at the IP level: the payload and the headers of every packet."""
        return self.payload_bytes + self.packets * self.header_bytes

    def __repr__(self) -> str:
        return f"<Segment {format_segment(self)}>"


def format_segment(segment: Segment) -> str:
    """Return e.g. ``10.0.0.1.1234 > 10.0.0.2.80: Flags [S], seq 1, win 65535, options [...]``.

    One line in tcpdump's manner.
    """
    length = segment.payload_bytes
    parts = [f"Flags [{format_flags(segment.flags)}]"]
    if length:
        parts.append(f"seq {segment.seq}:{seq_add(segment.seq, length)}")
    else:
        parts.append(f"seq {segment.seq}")
    if segment.flags & ACK:
        parts.append(f"ack {segment.ack}")
    parts.append(f"win {segment.window}")
    options = ",".join(_option_texts(segment))
    if options:
        parts.append(f"options [{options}]")
    parts.append(f"length {length}")
    if segment.packets > 1:
        parts.append(f"in {segment.packets} packets")
    source = f"{format_address(segment.src)}.{segment.src_port}"
    return f"{source} > {format_address(segment.dst)}.{segment.dst_port}: {', '.join(parts)}"


def _option_texts(segment: Segment) -> Iterator[str]:
    if segment.mss is not None:
        yield f"mss {segment.mss}"
    if segment.sack_permitted:
        yield "sackOK"
    if segment.ts_val is not None:
        yield f"TS val {segment.ts_val} ecr {segment.ts_ecr}"
    if segment.wscale is not None:
        yield f"wscale {segment.wscale}"
    if segment.sack:
        blocks = "".join(f"{{{left}:{right}}}" for left, right in segment.sack)
        yield f"sack {len(segment.sack)} {blocks}"
    for option in segment.mptcp:
        yield format_option(option)
    for raw in segment.raw_options:
        yield f"unknown-{raw.kind} 0x{raw.raw[2:].hex()}"
    for bad in segment.malformed:
        name = "mptcp" if bad.kind == MPTCP_KIND else f"option-{bad.kind}"
        yield f"{name} malformed ({bad.reason})"
