"""What can be set on a stack, with defaults as a Linux host has them unless noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mptcplab.stack.congestion.base import CongestionControl, CongestionGroup
from mptcplab.stack.path_managers.base import PathManager
from mptcplab.stack.schedulers.base import Scheduler
from mptcplab.wire.segment import MAX_TRAIN_BYTES

CongestionFactory = Callable[[int, CongestionGroup], CongestionControl]
"""Makes a congestion control for segments of so many bytes, in the group of its connection."""

ACCEPT_ECN: Final = 2
"""Grant ECN to who asks for it: the default of Linux's tcp_ecn."""

SECOND_NS: Final = 1_000_000_000

INITIAL_RTO_NS: Final = 1_000_000_000
"""RFC 6298 (2.1): "the sender SHOULD set RTO <- 1 second"."""

MIN_RTO_NS: Final = 200_000_000
"""DEVIATION: RFC 6298 (2.4) asks for at least 1 second; Linux's TCP_RTO_MIN is 200 ms."""

MAX_RTO_NS: Final = 120_000_000_000
"""Linux's TCP_RTO_MAX; RFC 6298 (2.5) allows a maximum of at least 60 seconds."""


@dataclass(slots=True)
class StackConfig:
    """The tunables of a stack; sizes in bytes, times in nanoseconds.

    One object may serve many connections; change it with ``dataclasses.replace``. It has as many
    attributes as there are settings: to group them would only lengthen their names.
    """

    congestion: CongestionFactory
    scheduler: Callable[[], Scheduler]
    path_manager: Callable[[], PathManager]

    mptcp: bool = True
    """Offer and accept MPTCP; without it every connection is plain TCP."""
    version: int = 1
    """MPTCP version offered, 0 or 1; a listener accepts this one only."""
    checksum: bool = False
    """Require the DSS checksum (flag A of MP_CAPABLE)."""
    allow_join_initial: bool = True
    """Without it we set flag C: no joins to the initial address and port (RFC 8684 3.1)."""
    max_subflows: int = 8
    """Most subflows of one connection at a time, joins beyond it are refused. A join by the peer
    counts from its third packet on, which proves that it knows our key."""
    max_half_open_joins: int = 32
    """Joins of one connection whose third packet has not come. Beyond it the oldest makes room (RFC
    4987 section 3.4), since a SYN with the token alone proves nothing."""
    backlog: int = 4096
    """Connections of one listener whose handshake is not done: SYNs beyond it are dropped, as by
    Linux without SYN cookies (somaxconn)."""

    mtu_bytes: int = 1500
    mss_bytes: int = 0
    """MSS we announce and keep to; 0 takes what the MTU leaves after fixed headers."""
    train_bytes: int = MAX_TRAIN_BYTES
    """Most payload of one segment (train); ``mss_bytes`` makes it a stack without offload. More
    than 65,535 holds for streams of lengths only: such a train stands for several mappings."""
    offload: bool = True
    """The interface takes segments of up to 64 KiB at once and hands such over (TSO, GSO, GRO), so
    that what leaves at once, and what one ACK answers, are as on Linux; see ``mptcp.trains``."""
    trains_per_window: int = 0
    """For simulation: into how many parts at least a window is cut by trains, which then stand for
    packets that leave one after another; 0: a train is what the interface takes at once."""
    coalesce_ns: int = 100_000
    """With offload, how long an interface collects what comes before it hands it over (interrupt
    moderation and GRO): the coalescing delay of common cards (Intel ixgbe: 8,000 to 20,000
    interrupts a second in bulk)."""

    sack: bool = True
    timestamps: bool = True
    window_scaling: bool = True
    nagle: bool = False
    """Nagle's algorithm (RFC 9293 3.7.4); ``Connection.set_nodelay`` changes it."""
    ecn: int = ACCEPT_ECN
    """As Linux's tcp_ecn: 0 no ECN, 1 ask for it, 2 grant it to who asks (RFC 3168)."""
    dscp: int = 0
    """Differentiated services code point, 0 to 63 (RFC 2474); ``Connection.set_dscp`` changes
    it."""
    pacing: bool = False
    fast_open: bool = False
    """TCP Fast Open (RFC 7413): open with the peer's cookie and data in the SYN, and grant
    cookies."""

    send_buffer_bytes: int = 87_380
    """Initial and, with ``send_buffer_max_bytes`` 0, fixed size (Linux's tcp_wmem)."""
    send_buffer_max_bytes: int = 4_194_304
    receive_buffer_bytes: int = 131_072
    """Initial and, with ``receive_buffer_max_bytes`` 0, fixed size (Linux's tcp_rmem). It counts
    payload only, where Linux also counts the memory around it."""
    receive_buffer_max_bytes: int = 6_291_456

    initial_rto_ns: int = INITIAL_RTO_NS
    min_rto_ns: int = MIN_RTO_NS
    max_rto_ns: int = MAX_RTO_NS
    syn_retries: int = 6
    """tcp_syn_retries."""
    syn_mptcp_retries: int = 2
    """Retransmitted SYNs that still offer MPTCP (syn_retrans_before_tcp_fallback)."""
    synack_retries: int = 5
    """tcp_synack_retries."""
    retries: int = 15
    """Timeouts in a row that end a subflow (tcp_retries2)."""
    user_timeout_ns: int = 0
    """Time without progress that ends a subflow (RFC 9293 3.8.3, TCP_USER_TIMEOUT); 0: none."""
    keepalive_ns: int = 0
    """Idle time before the first keepalive probe (RFC 9293 3.8.4); 0: none."""
    keepalive_interval_ns: int = 75 * SECOND_NS
    keepalive_probes: int = 9
    time_wait_ns: int = 60 * SECOND_NS
    """TCP_TIMEWAIT_LEN; RFC 9293 says 2 MSL, 4 minutes."""
    close_timeout_ns: int = 60 * SECOND_NS
    """How long a connection waits without a subflow (net.mptcp.close_timeout)."""
    add_addr_timeout_ns: int = 120 * SECOND_NS
    """Longest wait before an unechoed ADD_ADDR is sent again; 0: never again."""
    stale_loss_count: int = 4
    """Timeouts in a row after which a subflow is stale (stale_loss_cnt); 0: never."""

    @property
    def receive_coalescing_ns(self) -> int:
        """How long packets that come are collected: ``coalesce_ns`` with offload, else not."""
        return self.coalesce_ns if self.offload else 0
