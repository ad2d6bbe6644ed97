"""The parts of a reconstruction: connections, subflows, halves, events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.limits.causes import Limit
from mptcplab.limits.partition import Span
from mptcplab.trace.follow.mappings import EXTENT
from mptcplab.trace.follow.samples import SAMPLE
from mptcplab.wire.mptcp import MptcpOption
from mptcplab.wire.text import format_endpoint

_NO_INTS: Final = np.zeros(0, dtype=np.int64)
_NO_SAMPLES: Final = np.zeros(0, dtype=SAMPLE)
_NO_EXTENTS: Final = np.zeros(0, dtype=EXTENT)

BY_CAPABLE: Final = "MP_CAPABLE"
BY_TOKEN: Final = "token"  # noqa: S105  (how a subflow joined, no secret)
INFERRED: Final = "inferred"


@dataclass(slots=True)
class Checks:
    """How many mappings had a right, wrong or unverifiable DSS checksum; each counts once."""

    verified: int
    wrong: int
    unverifiable: int
    """Mappings that the capture does not hold in full, or whose 64-bit DSN is unknown."""
    wrong_at: list[tuple[int, int]] = field(default_factory=list)
    """(time, packet) of the first wrong ones."""


@dataclass(slots=True)
class Seen:
    """When certain packets of a half were captured, and which they were.

    Times are nanoseconds since 1970; times and packet numbers are 0 for what was never captured.
    """

    syn_ns: int = 0
    last_syn_ns: int = 0
    """Of the last SYN, where it was sent more than once."""
    established_ns: int = 0
    """When the subflow's initiator first acknowledged the other side's SYN."""
    fin_ns: int = 0
    fin_number: int = 0
    rst_ns: int = 0
    rst_number: int = 0
    last_ns: int = 0
    last_number: int = 0
    last_data_ns: int = 0
    last_data_number: int = 0


@dataclass(slots=True)
class Half:
    """One direction of a subflow: what one side sends on it."""

    number: int
    """2 * flow, plus 1 for what the flow's initiator receives."""
    bytes: int = 0
    """Payload without retransmissions."""
    reinjected_bytes: int = 0
    """Of ``bytes``, what another subflow (or an earlier mapping) had carried before."""
    duplicate_bytes: int = 0
    """Of ``reinjected_bytes``, what the receiver had by its first copy too: sent in vain."""
    acked_bytes: int = 0
    missing_bytes: int = 0
    """Of ``bytes``, what was acknowledged but never captured."""
    unmapped_bytes: int = 0
    unplaced_bytes: int = 0
    """Of ``bytes``, what is in no extent because there were too many; reinjections among them are
    not counted."""
    packets: int = 0
    payload_bytes: int = 0
    """With retransmissions."""
    checksums: Checks | None = None
    """Of its mappings; None where none had a checksum."""
    retransmitted_bytes: int = 0
    retransmissions: int = 0
    out_of_order: int = 0
    duplicate_acks: int = 0
    rtt_ns: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    """Mean round trip per slot of the data this half carries, capture point to receiver."""
    least_rtt_ns: int = 0
    mss_bytes: int = 0
    window_shift: int | None = None
    seen: Seen = field(default_factory=Seen)
    samples: NDArray[Any] = field(default_factory=lambda: _NO_SAMPLES)
    extents: NDArray[Any] = field(default_factory=lambda: _NO_EXTENTS)
    again_seq: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    again_bytes: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    """Where on the subflow data that was sent before starts, and how much of it there is."""
    data_rel: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    """Relative data sequence number of each extent, the first byte of the connection being 1."""

    def total(self, name: str, start_ns: int, end_ns: int) -> int:
        """Return the sum of a column of ``samples`` from ``start_ns`` to before ``end_ns``."""
        low, high = np.searchsorted(self.samples["time_ns"], (start_ns, end_ns))
        return int(self.samples[name][low:high].sum())


@dataclass(slots=True)
class Subflow:
    """A TCP connection that carries part of an MPTCP connection."""

    flow: int
    source: str
    """Address of the side that opened it, as far as the capture shows."""
    destination: str
    source_port: int
    destination_port: int
    joined_by: str
    first_number: int
    start_ns: int
    opened_by: int = 0
    """The connection's side (0: the one that opened the connection) that ``source`` is."""
    number: int = 0
    """Within the connection, from 0 in order of appearance."""
    end_ns: int = 0
    address_ids: list[int | None] = field(default_factory=lambda: [None, None])
    """Of source and destination."""
    backup: list[bool] = field(default_factory=lambda: [False, False])
    token: int | None = None
    """The token in its MP_JOIN: that of the destination's side."""
    nonces: list[int | None] = field(default_factory=lambda: [None, None])
    hmacs: list[bytes | None] = field(default_factory=lambda: [None, None])
    hmac_ok: bool | None = None
    handshake_ns: int = 0
    """From the SYN to the initiator's first ACK: one round trip wherever the capture is."""
    halves: list[Half] = field(default_factory=list)
    """What the source and what the destination sends."""

    @property
    def ends(self) -> tuple[str, str]:
        """Source and destination as ADDRESS:PORT, IPv6 addresses in brackets."""
        return (
            format_endpoint(self.source, self.source_port),
            format_endpoint(self.destination, self.destination_port),
        )

    @property
    def checksums(self) -> Checks | None:
        """The DSS checksums of both directions; None where there were none."""
        known = [half.checksums for half in self.halves if half.checksums is not None]
        if not known:
            return None
        return Checks(
            sum(checks.verified for checks in known),
            sum(checks.wrong for checks in known),
            sum(checks.unverifiable for checks in known),
            sorted(place for checks in known for place in checks.wrong_at),
        )

    @property
    def bytes(self) -> int:
        """Payload of both directions, retransmissions not counted."""
        return sum(half.bytes for half in self.halves)

    @property
    def reinjected_bytes(self) -> int:
        """Of ``bytes``, what had been sent on another subflow before."""
        return sum(half.reinjected_bytes for half in self.halves)

    def half(self, side: int) -> Half:
        """Return what the connection's ``side`` sends on this subflow."""
        return self.halves[side ^ self.opened_by]

    def end(self, side: int) -> str:
        """Return the end of the connection's ``side`` as ADDRESS:PORT."""
        return self.ends[side ^ self.opened_by]

    def address(self, side: int) -> str:
        """Return the address of the connection's ``side``."""
        return self.source if side == self.opened_by else self.destination


@dataclass(slots=True)
class Event:
    """Something that happened on a connection."""

    time_ns: int
    number: int
    """The packet that shows it, 0 for none."""
    kind: str
    """A word or two, such as ``join`` or ``subflow lost``."""
    text: str
    """A sentence."""
    subflow: int | None = None
    side: int | None = None
    """Who did it: 0 for the side that opened the connection."""


@dataclass(slots=True)
class Held:
    """One direction of a connection that carried data: its time divided among causes."""

    side: int
    """That sent: 0 for the side that opened the connection."""
    spans: list[Span]
    """The whole time, in order."""
    limits: list[Limit]
    """The longest first."""


@dataclass(slots=True)
class Connection:
    """An MPTCP connection as far as the capture shows it."""

    number: int = 0
    version: int | None = None
    keys: list[int | None] = field(default_factory=lambda: [None, None])
    """Of the side that opened the connection and of the other."""
    tokens: list[int | None] = field(default_factory=lambda: [None, None])
    idsns: list[int | None] = field(default_factory=lambda: [None, None])
    capable_flags: list[int | None] = field(default_factory=lambda: [None, None])
    saw_syn: bool = False
    saw_syn_ack: bool = False
    saw_ack: bool = False
    fallback_reason: str | None = None
    fallback_ns: int = 0
    fallback_number: int = 0
    subflows: list[Subflow] = field(default_factory=list)
    other_keys: list[tuple[int, int, int]] = field(default_factory=list)
    """(packet, time, side that sent it) of MP_CAPABLEs that contradict the keys seen before."""
    tell: Callable[[Connection], list[Event]] = field(default=lambda _: [], repr=False)
    """Returns the events; called when ``events`` is first used."""
    judge: Callable[[Connection], list[Held]] = field(default=lambda _: [], repr=False)
    """Returns what held it back; called when ``held`` is first used."""
    options: list[tuple[int, int, int, MptcpOption]] = field(default_factory=list)
    """(packet, time, half, option) of every option but DSS."""
    ended: set[int] = field(default_factory=set)
    """The sides that have sent a DATA_FIN."""
    data_bases: list[int | None] = field(default_factory=lambda: [None, None])
    """The data sequence number that is 0 for each side: its IDSN, or, where the start is missing,
    one before the first seen."""
    _events: list[Event] | None = None
    _held: list[Held] | None = None

    @property
    def events(self) -> list[Event]:
        """What happened, in order of time."""
        if self._events is None:
            self._events = self.tell(self)
        return self._events

    @property
    def held(self) -> list[Held]:
        """What held back each direction that carried data."""
        if self._held is None:
            self._held = self.judge(self)
        return self._held

    @property
    def limits(self) -> list[Limit]:
        """What held back each direction, the longest cause of each first."""
        return [limit for direction in self.held for limit in direction.limits]

    @property
    def complete_handshake(self) -> bool:
        """Whether MP_CAPABLE was seen on SYN, SYN/ACK and third packet."""
        return self.saw_syn and self.saw_syn_ack and self.saw_ack

    @property
    def fallback(self) -> bool:
        """Whether it went on as plain TCP."""
        return self.fallback_reason is not None

    @property
    def start_ns(self) -> int:
        """When its first packet was captured."""
        return min(subflow.start_ns for subflow in self.subflows)

    @property
    def end_ns(self) -> int:
        """When its last packet was captured."""
        return max(subflow.end_ns for subflow in self.subflows)

    @property
    def bytes(self) -> int:
        """Data of both directions, each byte once."""
        return sum(subflow.bytes - subflow.reinjected_bytes for subflow in self.subflows)

    def side_bytes(self, side: int) -> int:
        """Return the data that ``side`` sent, each byte once."""
        halves = [subflow.half(side) for subflow in self.subflows]
        return sum(half.bytes - half.reinjected_bytes for half in halves)

    @property
    def busier_side(self) -> int:
        """The side that sent more data."""
        return 0 if self.side_bytes(0) >= self.side_bytes(1) else 1

    @property
    def checksums(self) -> bool | None:
        """Whether DSS checksums are in use; None where neither side's flags were seen."""
        known = [flags for flags in self.capable_flags if flags is not None]
        return any(flags & 0x80 for flags in known) if known else None
