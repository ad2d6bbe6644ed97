"""What a middlebox on a link is asked to do; :mod:`mptcplab.middleboxes` does it.

A box stands at one end of a link. *Forward* is the direction in which packets leave that end by
the link, *backward* the one in which they come in by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from mptcplab.units import NANOSECONDS

MPTCP_OPTIONS = (
    *("MP_CAPABLE", "MP_JOIN", "DSS", "ADD_ADDR", "REMOVE_ADDR"),
    *("MP_PRIO", "MP_FAIL", "MP_FASTCLOSE", "MP_TCPRST"),
)
"""The MPTCP options by subtype, from 0 (RFC 8684 section 7.2)."""
TCP_OPTIONS = ("MSS", "WINDOW_SCALE", "SACK_PERMITTED", "SACK", "TIMESTAMPS")
OPTIONS = (*MPTCP_OPTIONS, "MPTCP", *TCP_OPTIONS, "UNKNOWN")
"""What boxes call TCP options; "MPTCP" is all of MPTCP's, "UNKNOWN" all that have no name here."""

ICMP = "ICMP"
"""What boxes call ICMP and ICMPv6 errors about TCP segments and UDP datagrams."""
SEGMENTS = ("SYN", "SYN/ACK", "ACK", "data", "FIN", "RST", ICMP)
"""What boxes call segments: "ACK" has no payload and none of the other flags."""

KINDS = (
    *("nat", "firewall", "strip", "drop", "blackhole"),
    *("rewrite", "split", "merge", "randomise-sequence"),
)

ESTABLISHED_NS = 7440 * NANOSECONDS
"""How long an idle TCP connection is remembered at least (RFC 5382 section 5, REQ-5)."""
UDP_NS = 300 * NANOSECONDS
"""The same of UDP: the default that RFC 4787 section 4.3 recommends."""
HOLD_NS = NANOSECONDS // 1000


@dataclass(frozen=True, slots=True)
class MiddleboxPlan:
    """One box, as the scenario has it.

    ``owner`` is the link or router that it was declared for, ``name`` what tells it from others
    there. ``direction`` is "both", "forward" or "backward". ``options`` and ``segments`` say what
    it acts on (empty: on any), from ``after_bytes`` of payload of a flow on, ``times`` packets at
    most.

    ``size_bytes`` is the longest payload of a packet ("split", "merge"), ``hold_ns`` how long a
    packet waits for the next ("merge"), which is joined to it whatever its options where ``blind``.
    ``timeout_ns`` and ``udp_timeout_ns`` are how long idle connections are remembered ("nat",
    "firewall"). ``outside`` is the address that a NAT shows.
    """

    kind: str
    name: str = ""
    owner: str = ""
    direction: str = "both"
    enabled: bool = True
    options: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    after_bytes: int = 0
    times: int | None = None
    size_bytes: int = 0
    hold_ns: int = HOLD_NS
    blind: bool = False
    timeout_ns: int = ESTABLISHED_NS
    udp_timeout_ns: int = UDP_NS
    outside: IPv4Address | None = None

    @property
    def target(self) -> str:
        """What the timeline and results call it: "lte:strip"."""
        return f"{self.owner}:{self.name}"

    @property
    def interferes(self) -> bool:
        """Whether it may keep MPTCP, or the bytes themselves, from passing unharmed."""
        return self.kind in ("strip", "drop", "blackhole", "rewrite", "firewall") or self.blind
