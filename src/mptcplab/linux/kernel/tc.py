"""Traffic control: qdiscs and filters as requests, and their statistics.

Layouts and numbers: include/uapi/linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h, gen_stats.h.
"""

from __future__ import annotations

import hashlib
import socket
import struct
from dataclasses import dataclass
from typing import Final

from mptcplab.linux.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_ECHO,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkSocket,
    Request,
    attribute,
    attribute_list,
    attributes,
    nested,
    string,
    u32,
    u64,
)

_RTM_NEWQDISC: Final = 36
_RTM_GETQDISC: Final = 38
_RTM_NEWTFILTER: Final = 44
_RTM_GETTFILTER: Final = 46

ROOT: Final = 0xFFFFFFFF
_CLSACT_PARENT: Final = 0xFFFFFFF1
_CLSACT_HANDLE: Final = 0xFFFF0000
INGRESS_HOOK: Final = 0xFFFFFFF2  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
EGRESS_HOOK: Final = 0xFFFFFFF3
SHAPER_HANDLE: Final = 0x20000
IMPAIRMENT_HANDLE: Final = 0x10000
IMPAIRMENT_CLASS: Final = 0x10001
_FIRST_PRIORITY: Final = 1
_ETH_P_ALL: Final = 3

_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_STATS2: Final = 7
_TCA_STATS_BASIC: Final = 1
_TCA_STATS_QUEUE: Final = 3
_TCA_STATS_PKT64: Final = 8

_TCA_TBF_PARMS: Final = 1
_TCA_TBF_RATE64: Final = 4
_TCA_TBF_PRATE64: Final = 5
_TCA_TBF_BURST: Final = 6
_TCA_TBF_PBURST: Final = 7
_PEAK_BYTES_PER_SECOND: Final = 1_000_000_000_000  # 8 Tb/s: a packet of 1,500 bytes in 2 ns

_TCA_NETEM_RATE: Final = 6
_TCA_NETEM_RATE64: Final = 8
_TCA_NETEM_LATENCY64: Final = 10
_TCA_NETEM_JITTER64: Final = 11

_TCA_U32_SEL: Final = 5
_TCA_U32_ACT: Final = 7
_U32_TERMINAL: Final = 1
_TCA_ACT_KIND: Final = 1
_TCA_ACT_OPTIONS: Final = 2
_TCA_ACT_STATS: Final = 4
_TCA_MIRRED_PARMS: Final = 2
_TCA_EGRESS_REDIR: Final = 1
_TCA_EGRESS_MIRROR: Final = 2
_TC_ACT_STOLEN: Final = 4

_TCMSG: Final = struct.Struct("=BxxxiIII")
_RATESPEC: Final = struct.Struct("=BBHhHI")
_TBF_QOPT_TAIL: Final = struct.Struct("=III")  # limit, buffer, mtu
_MIRRED: Final = struct.Struct("=IIiiiiI")  # index capab action refcnt bindcnt eaction ifindex
_U32_SEL: Final = struct.Struct("=BBBxHHhhI")
_U32_KEY: Final = struct.Struct("=IIii")

_UINT32_MAX: Final = 0xFFFFFFFF
_LINKLAYER_ETHERNET: Final = 1


@dataclass(frozen=True, slots=True)
class QdiscStatistics:
    """What a qdisc counted: bytes and packets that left it, packets refused, what waits now.

    Bytes and packets are those on the wire (include/net/sch_generic.h, bstats_update); refusals and
    the queue's length count a GSO frame as one.
    """

    sent_bytes: int
    sent_packets: int
    drops: int
    backlog_bytes: int
    backlog_frames: int
    options: bytes


def _tcmsg(index: int, handle: int, parent: int, info: int = 0) -> bytes:
    return _TCMSG.pack(socket.AF_UNSPEC, index, handle, parent, info)


def _ratespec(rate_bytes: int, overhead_bytes: int) -> bytes:
    # a cell_log of 0 with cell_align 0 and no rate table: every kernel since 3.9 computes instead
    return _RATESPEC.pack(
        0, _LINKLAYER_ETHERNET, overhead_bytes & 0xFFFF, 0, 0, min(rate_bytes, _UINT32_MAX)
    )


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """tbf's parameters (net/sched/sch_tbf.c).

    ``limit_bytes`` is what may wait.  A frame larger than ``whole_bytes``, or than the burst, is
    cut into its packets first, which the queue then takes or refuses one by one (tbf_segment); that
    bound is the burst of a peak rate, so high that it never makes anything wait.
    """

    rate_bps: int
    limit_bytes: int
    burst_bytes: int
    overhead_bytes: int = 0
    whole_bytes: int | None = None


def token_bucket(
    index: int, shaper: TokenBucket, *, parent: int = ROOT, change: bool = False
) -> Request:
    """Make tbf an interface's qdisc, or change the one there in place, keeping its queue."""
    rate = max(shaper.rate_bps // 8, 1)
    peak = 0 if shaper.whole_bytes is None else _PEAK_BYTES_PER_SECOND
    parms = (
        _ratespec(rate, shaper.overhead_bytes)
        + _ratespec(peak, 0)
        + _TBF_QOPT_TAIL.pack(min(shaper.limit_bytes, _UINT32_MAX), 0, 0)
    )
    options = [attribute(_TCA_TBF_PARMS, parms), u32(_TCA_TBF_BURST, shaper.burst_bytes)]
    if shaper.whole_bytes is not None:
        options.append(u64(_TCA_TBF_PRATE64, peak))
        options.append(u32(_TCA_TBF_PBURST, shaper.whole_bytes))
    if rate > _UINT32_MAX:
        options.append(u64(_TCA_TBF_RATE64, rate))
    body = (
        _tcmsg(index, SHAPER_HANDLE, parent)
        + string(_TCA_KIND, "tbf")
        + nested(_TCA_OPTIONS, *options)
    )
    flags = 0 if change else NLM_F_CREATE | NLM_F_REPLACE
    return Request(_RTM_NEWQDISC, flags, body, f"shape to {shaper.rate_bps} bit/s with tbf")


@dataclass(frozen=True, slots=True)
class Impairment:
    """netem's parameters (net/sched/sch_netem.c): delay and jitter in ns, loss 0 to 1.

    ``limit_packets`` is how many frames may be under way.  Jitter is uniform; frames stay in order,
    because a rate makes netem count each frame from the one before it.
    """

    delay_ns: int
    jitter_ns: int
    loss: float
    limit_packets: int


_ORDER_KEEPING_BYTES_PER_SECOND: Final = 1_000_000_000_000  # 8 Tb/s: adds 0.01 ns a byte


def impairment(index: int, parameters: Impairment, *, change: bool = False) -> Request:
    """Make netem an interface's root qdisc, or change the one there in place."""
    loss = round(parameters.loss * _UINT32_MAX)
    # struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter; the times go by attribute
    options = struct.pack("=IIIIII", 0, parameters.limit_packets, loss, 0, 0, 0)
    options += struct.pack("=HHq", 12, _TCA_NETEM_LATENCY64, parameters.delay_ns)
    options += struct.pack("=HHq", 12, _TCA_NETEM_JITTER64, parameters.jitter_ns)
    if parameters.jitter_ns:
        rate = struct.pack("=IiIi", _UINT32_MAX, 0, 0, 0)  # struct tc_netem_rate
        options += attribute(_TCA_NETEM_RATE, rate)
        options += u64(_TCA_NETEM_RATE64, _ORDER_KEEPING_BYTES_PER_SECOND)
    body = (
        _tcmsg(index, IMPAIRMENT_HANDLE, ROOT)
        + string(_TCA_KIND, "netem")
        + attribute(_TCA_OPTIONS, options)
    )
    flags = 0 if change else NLM_F_CREATE | NLM_F_REPLACE
    return Request(_RTM_NEWQDISC, flags, body, "delay and lose with netem")


def classifier_hooks(index: int) -> Request:
    """Make room for filters where frames enter and leave an interface (clsact)."""
    body = _tcmsg(index, _CLSACT_HANDLE, _CLSACT_PARENT) + string(_TCA_KIND, "clsact")
    return Request(
        _RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body, "attach clsact (CONFIG_NET_SCH_INGRESS)"
    )


def _redirecting_filter(index: int, hook: int, target: int, direction: int, then: int) -> Request:
    mirred = _MIRRED.pack(0, 0, then, 0, 0, direction, target)
    action = nested(
        1,  # the first, and only, action
        string(_TCA_ACT_KIND, "mirred"),
        nested(_TCA_ACT_OPTIONS, attribute(_TCA_MIRRED_PARMS, mirred), flag=True),
    )
    everything = _U32_SEL.pack(_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + _U32_KEY.pack(0, 0, 0, 0)
    body = (
        _tcmsg(index, 0, hook, _FIRST_PRIORITY << 16 | socket.htons(_ETH_P_ALL))
        + string(_TCA_KIND, "u32")
        + nested(_TCA_OPTIONS, nested(_TCA_U32_ACT, action), attribute(_TCA_U32_SEL, everything))
    )
    return Request(
        _RTM_NEWTFILTER,
        NLM_F_CREATE | NLM_F_EXCL,
        body,
        "attach a filter (CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED)",
    )


def forward_copies(index: int, target: int) -> Request:
    """Send all that enters an interface out of another one, cut off from the socket that sent it.

    A frame carries its sender's socket across veth pairs, so that a queue further on holds that
    socket back (TCP small queues) as no queue in a network could.  A copy carries no socket: the
    frame is mirrored and the original consumed (net/sched/act_mirred.c, skb_clone).
    """
    return _redirecting_filter(index, INGRESS_HOOK, target, _TCA_EGRESS_MIRROR, _TC_ACT_STOLEN)


def redirect(index: int, hook: int, target: int) -> Request:
    """Send all that passes a hook of an interface through another one, an ifb, and back."""
    return _redirecting_filter(index, hook, target, _TCA_EGRESS_REDIR, _TC_ACT_STOLEN)


def qdisc(channel: NetlinkSocket, index: int, handle: int) -> QdiscStatistics:
    """Return one qdisc of an interface; NetlinkError where it has none of that handle."""
    what = f"read qdisc {handle >> 16:x}: of interface {index}"
    # without ECHO the answer goes to listeners alone (net/sched/sch_api.c, qdisc_notify)
    request = Request(_RTM_GETQDISC, NLM_F_ECHO, _tcmsg(index, handle, 0), what)
    (message,) = channel.query(request)
    return _parse_qdisc(message.body)


def _parse_qdisc(body: bytes) -> QdiscStatistics:
    """Return the statistics in an RTM_NEWQDISC message."""
    values = attributes(body[_TCMSG.size :])
    statistics = attributes(values.get(_TCA_STATS2, b""))
    sent_bytes, sent_packets = _basic(statistics)
    # struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits
    queue = struct.unpack("=5I", statistics.get(_TCA_STATS_QUEUE, bytes(20))[:20])
    return QdiscStatistics(
        sent_bytes=sent_bytes,
        sent_packets=sent_packets,
        drops=queue[2],
        backlog_bytes=queue[1],
        backlog_frames=queue[0],
        options=values.get(_TCA_OPTIONS, b""),
    )


def _basic(statistics: dict[int, bytes]) -> tuple[int, int]:
    """Return bytes and packets of struct gnet_stats_basic; TCA_STATS_PKT64 has all 64 bits."""
    total_bytes, packets = struct.unpack("=QI", statistics.get(_TCA_STATS_BASIC, bytes(12))[:12])
    wide = statistics.get(_TCA_STATS_PKT64)
    return total_bytes, struct.unpack("=Q", wide)[0] if wide else packets


@dataclass(frozen=True, slots=True)
class Qdisc:
    """A qdisc as it was configured; ``handle`` and ``parent`` as in ``tc qdisc``."""

    index: int
    handle: int
    parent: int
    kind: str
    options: bytes

    def __str__(self) -> str:
        digest = hashlib.sha256(self.options).hexdigest()[:6]
        return f"{self.kind} {self.handle >> 16:x}: (parent {self.parent:x}, options {digest})"


def qdiscs(channel: NetlinkSocket) -> list[Qdisc]:
    """Return the qdiscs of all interfaces, but for those that the kernel gives them by default,
    which have no handle.
    """
    found = []
    for message in channel.query(
        Request(_RTM_GETQDISC, NLM_F_DUMP, _tcmsg(0, 0, 0), "list qdiscs")
    ):
        _, index, handle, parent, _ = _TCMSG.unpack_from(message.body)
        values = attributes(message.body[_TCMSG.size :])
        if handle >> 16:
            kind = values[_TCA_KIND].rstrip(b"\0").decode()
            found.append(Qdisc(index, handle, parent, kind, values.get(_TCA_OPTIONS, b"")))
    return found


def filter_statistics(channel: NetlinkSocket, index: int, hook: int) -> tuple[int, int]:
    """Return the bytes and packets that an interface's redirecting filter has passed on."""
    dump = Request(_RTM_GETTFILTER, NLM_F_DUMP, _tcmsg(index, 0, hook), "list filters")
    for message in channel.query(dump):
        values = attributes(message.body[_TCMSG.size :])
        options = attributes(values.get(_TCA_OPTIONS, b""))
        for _, action in attribute_list(options.get(_TCA_U32_ACT, b"")):
            return _basic(attributes(attributes(action).get(_TCA_ACT_STATS, b"")))
    return 0, 0


def parse_token_bucket(options: bytes) -> tuple[int, int]:
    """Return the rate (bit/s) and the queue's limit (bytes) that tbf says it has."""
    values = attributes(options)
    parms = values[_TCA_TBF_PARMS]
    (rate,) = struct.unpack_from("=I", parms, _RATESPEC.size - 4)
    if _TCA_TBF_RATE64 in values:
        (rate,) = struct.unpack("=Q", values[_TCA_TBF_RATE64])
    (limit,) = struct.unpack_from("=I", parms, 2 * _RATESPEC.size)
    return rate * 8, limit


def parse_impairment(options: bytes) -> Impairment:
    """Return the parameters that netem says it has."""
    _, limit, loss = struct.unpack_from("=III", options)
    values = attributes(options[24:])
    (delay,) = struct.unpack("=q", values.get(_TCA_NETEM_LATENCY64, bytes(8)))
    (jitter,) = struct.unpack("=q", values.get(_TCA_NETEM_JITTER64, bytes(8)))
    return Impairment(delay, jitter, loss / _UINT32_MAX, limit)
