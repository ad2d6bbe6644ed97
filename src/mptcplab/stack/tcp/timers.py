"""The deadlines of one subflow, in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack.ready import NEVER_NS

if TYPE_CHECKING:
    from mypy_extensions import i64


class Timers:
    """When each timer of a subflow expires (ns); ``NEVER_NS`` where it does not run.

    A timer is set and stopped by assignment. Whoever finds one due stops it or sets it anew.
    """

    __slots__ = (
        "delayed_ack_ns",
        "join_ack_ns",
        "keepalive_ns",
        "pacing_ns",
        "path_mtu_ns",
        "probe_ns",
        "reorder_ns",
        "rto_ns",
        "time_wait_ns",
        "user_timeout_ns",
    )

    def __init__(self) -> None:
        self.rto_ns: i64 = NEVER_NS
        """Retransmission (RFC 6298)."""
        self.probe_ns: i64 = NEVER_NS
        """Tail loss probe: PTO of RFC 8985 section 7.2."""
        self.reorder_ns: i64 = NEVER_NS
        """RACK's reordering timer (RFC 8985 section 6.3)."""
        self.pacing_ns: i64 = NEVER_NS
        """When a paced sender may send again."""
        self.delayed_ack_ns: i64 = NEVER_NS
        """RFC 9293 section 3.8.6.3."""
        self.time_wait_ns: i64 = NEVER_NS
        """The end of TIME-WAIT."""
        self.keepalive_ns: i64 = NEVER_NS
        """RFC 9293 section 3.8.4."""
        self.user_timeout_ns: i64 = NEVER_NS
        """RFC 9293 section 3.8.3."""
        self.join_ack_ns: i64 = NEVER_NS
        """The third packet of MP_JOIN is sent again (RFC 8684 section 3.2)."""

        self.path_mtu_ns: i64 = NEVER_NS
        """What routers told of the path MTU is forgotten (RFC 1191 section 6.3)."""

    def earliest_ns(self) -> i64:
        """Return the earliest deadline."""
        earliest = self.rto_ns
        if self.probe_ns < earliest:
            earliest = self.probe_ns
        if self.reorder_ns < earliest:
            earliest = self.reorder_ns
        if self.pacing_ns < earliest:
            earliest = self.pacing_ns
        if self.delayed_ack_ns < earliest:
            earliest = self.delayed_ack_ns
        if self.time_wait_ns < earliest:
            earliest = self.time_wait_ns
        if self.keepalive_ns < earliest:
            earliest = self.keepalive_ns
        if self.user_timeout_ns < earliest:
            earliest = self.user_timeout_ns
        if self.join_ack_ns < earliest:
            earliest = self.join_ack_ns
        if self.path_mtu_ns < earliest:
            earliest = self.path_mtu_ns
        return earliest

    def stop_sending(self) -> None:
        """Stop the timers of the sending half: nothing is to be sent any more."""
        self.rto_ns = NEVER_NS
        self.probe_ns = NEVER_NS
        self.reorder_ns = NEVER_NS
        self.pacing_ns = NEVER_NS
        self.user_timeout_ns = NEVER_NS
