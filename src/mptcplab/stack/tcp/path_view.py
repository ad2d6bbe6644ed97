"""What a subflow knows of its path: how large its packets may be, and what routers say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.wire.icmp import Problem
from mptcplab.wire.ip import IPV4_FIXED_BYTES, IPV6_FIXED_BYTES

if TYPE_CHECKING:
    from mypy_extensions import i64


class PathView:
    """Segment sizes of one subflow, in bytes, and the last error that came back."""

    __slots__ = (
        "agreed_mss_bytes",
        "announced_mss_bytes",
        "error",
        "fixed_bytes",
        "mtu_bytes",
        "option_bytes",
        "resent_for_bytes",
    )

    def __init__(self, announced_mss_bytes: int, ipv4: bool) -> None:
        self.announced_mss_bytes: i64 = announced_mss_bytes
        """The MSS that our SYN announces."""
        self.agreed_mss_bytes: i64 = announced_mss_bytes
        """The smaller of both sides'."""
        self.option_bytes: i64 = 0
        """What our TCP options take of it."""
        self.fixed_bytes: i64 = IPV4_FIXED_BYTES if ipv4 else IPV6_FIXED_BYTES
        self.mtu_bytes: i64 = 0
        """The path MTU, 0 where nothing is known of it."""
        self.resent_for_bytes: i64 = 0
        """The path MTU for which what was too big has been sent again, 0 for none."""
        self.error: Problem | None = None
        """A soft error (RFC 1122 section 4.2.3.9), told where the subflow then times out."""

    def payload_bytes(self) -> i64:
        """Return how much a packet may carry (Linux's tcp_mtu_to_mss)."""
        mss = self.agreed_mss_bytes
        if self.mtu_bytes > 0 and self.mtu_bytes - self.fixed_bytes < mss:
            mss = self.mtu_bytes - self.fixed_bytes
        return mss - self.option_bytes
