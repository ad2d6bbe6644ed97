"""A link in the kernel: two veth pairs, joined and shaped in a namespace between the hosts.

    host a                    wire                       host b
    eth8.520 ====== w5a  <- copies + tbf ->  w5b ====== eth3.521

Where the kernel has 8021q, a VLAN and its end in the wire are VLANs on the two ends of one veth
pair, the NIC, that all VLANs of the NIC share; tbf then charges the tag, which it does not see.

What enters the wire at one side is copied out of the other, through that side's qdisc: tbf with the
declared queue, under netem where the link has delay, jitter or loss and the kernel has netem.  So
the queue is in the network and not in the sender, whose own back-pressure (TCP small queues) ends
at the copy: see :func:`mptcplab.linux.kernel.tc.forward_copies`.

A frame that stands for several packets passes whole where it is short against the link and its
queue: see :func:`frame_limit_bytes`, which hosts keep to.  tbf cuts a longer one into packets,
which its queue takes or refuses one by one.  Where no more than a packet may pass whole, the
interface at the far end joins those that come together (GRO), as a network card does, unless it is
a host's without offload.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from mptcplab.linux.drivers.driver import DIRECTIONS, Attachment, LinkDriver, LinkReading, Tagging
from mptcplab.linux.kernel import offloads, rtnl, tc
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.kernel.netlink import Request
from mptcplab.network.impairments import JitterDistribution
from mptcplab.network.topology import ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES, Channel
from mptcplab.units import NANOSECONDS

_GSO_MAX_BYTES: Final = 65536  # include/linux/netdevice.h, GSO_LEGACY_MAX_SIZE
_TIMER_SLACK_NS: Final = 5_000_000
"""For how long tbf may be late and still make up for it, from its burst: the wait of a softirq on
a busy machine without preemption; measured with bench/link_fidelity.py."""
_PIECE_NS: Final = 100_000
"""What comes within it is handed to a host together, as by the TAP emulator and in simulation."""
_QUEUE_SHARE: Final = 16
_UNLIMITED_BPS: Final = 1_000_000_000_000  # stands for "no rate", which tbf does not have
_NO_LIMIT_BYTES: Final = 0xFFFFFFFF
_NETEM_LIMIT_PACKETS: Final = 1_000_000


def frame_limit_bytes(channel: Channel, mtu: int) -> int:
    """Return how long a frame may be that passes one direction of a link whole, in bytes.

    It takes a tenth of a millisecond of the link at most, and a 16th of its queue, which takes or
    refuses it whole; one packet it may always be.  Cutting each frame of a link of 1 Gb/s into its
    packets costs four times the CPU time, and a core that two such links would fill.
    """
    limit = _GSO_MAX_BYTES
    if channel.rate_bps is not None:
        limit = min(limit, channel.rate_bps * _PIECE_NS // (8 * NANOSECONDS))
        if channel.queue.limit_bytes is not None:
            limit = min(limit, channel.queue.limit_bytes // _QUEUE_SHARE)
    return max(limit, mtu + ETHERNET_HEADER_BYTES)


def shaper(channel: Channel, largest_bytes: int) -> tc.TokenBucket:
    """Return tbf's parameters for one direction of a link.

    The burst is ``largest_bytes``, the longest frame that passes whole, and what the link carries
    while tbf is late. Where nothing has to wait, frames pass as large as hosts hand them over.
    """
    unlimited = channel.rate_bps is None
    rate = _UNLIMITED_BPS if channel.rate_bps is None else channel.rate_bps
    slack = rate * _TIMER_SLACK_NS // (8 * NANOSECONDS)
    limit = channel.queue.limit_bytes
    return tc.TokenBucket(
        rate_bps=rate,
        limit_bytes=_NO_LIMIT_BYTES if limit is None else limit,
        burst_bytes=min(largest_bytes + max(channel.overhead_bytes, 0) + slack, _NO_LIMIT_BYTES),
        overhead_bytes=channel.overhead_bytes,
        whole_bytes=None if unlimited else largest_bytes,
    )


@dataclass
class _Side:
    """The wire's interface at one end: index, and what its egress (towards that end) is set to."""

    name: str
    end: Attachment
    channel: Channel
    index: int = 0

    @property
    def tag_bytes(self) -> int:
        """What each packet has on the wire and tbf does not see."""
        return VLAN_TAG_BYTES if self.end.tagging else 0


class KernelDriver(LinkDriver):
    """A link shaped by tbf, and by netem above it where it was told to use that."""

    def __init__(
        self,
        wire: NetNamespace,
        prefix: str,
        ends: tuple[Attachment, Attachment],
        channels: tuple[Channel, Channel],
        mtu: int,
        *,
        netem: bool = False,
        up: bool = True,
    ) -> None:
        """Take the ends a and b and the channels forward and backward; ``prefix`` names devices."""
        self.name = "netem" if netem else "kernel"
        self._wire = wire
        self._mtu = mtu
        self._netem = netem
        self._up = up
        forward, backward = channels
        # what goes forward leaves at b
        self._a = _Side(prefix + "a", ends[0], backward)
        self._b = _Side(prefix + "b", ends[1], forward)
        self._drops = dict.fromkeys(DIRECTIONS, 0)

    def device_requests(self) -> Iterator[tuple[NetNamespace, Request]]:
        """Yield what makes the interfaces at both ends and in the wire, and where to ask for it."""
        for side in (self._a, self._b):
            end = side.end
            if end.tagging is None:
                here = rtnl.VethEnd(side.name, self._wire.descriptor, self._mtu)
                there = rtnl.VethEnd(end.interface, end.namespace.descriptor, end.mtu)
                yield self._wire, rtnl.add_veth(here, there)
            else:
                tag = end.tagging.tag
                far = rtnl.Vlan(side.name, tag, end.tagging.far, self._mtu)
                yield self._wire, rtnl.add_vlan(far)
                yield end.namespace, host_vlan(end, end.tagging, dormant=not self._up)

    def wire_requests(self, devices: dict[str, rtnl.Device]) -> list[Request]:
        """Return what joins and shapes the two sides, once their devices are there."""
        requests: list[Request] = []
        for side in (self._a, self._b):
            side.index = devices[side.name].index
            requests += self._shape(side, change=False)
            requests.append(tc.classifier_hooks(side.index))
        requests.append(tc.forward_copies(self._a.index, self._b.index))
        requests.append(tc.forward_copies(self._b.index, self._a.index))
        if self._up:
            requests += [rtnl.set_link(side.index, up=True) for side in (self._a, self._b)]
        return requests

    def _shape(self, side: _Side, *, change: bool) -> list[Request]:
        channel = side.channel
        on_the_wire = channel.overhead_bytes + side.tag_bytes
        largest = self.frame_limit_bytes(channel)
        parameters = shaper(replace(channel, overhead_bytes=on_the_wire), largest)
        if not self._netem:
            return [tc.token_bucket(side.index, parameters, change=change)]
        netem = tc.Impairment(
            channel.delay_ns, channel.jitter_ns, channel.loss, _NETEM_LIMIT_PACKETS
        )
        return [
            tc.impairment(side.index, netem, change=change),
            tc.token_bucket(side.index, parameters, parent=tc.IMPAIRMENT_CLASS, change=change),
        ]

    def start(self) -> None:
        """Let packets leave where an end takes no longer frames, or joins them by itself.

        A veth receives with GRO only from a peer without segmentation offload
        (veth_skb_is_eligible_for_gro).
        """
        sides = (self._a, self._b)
        joining = [side for side in sides if self._joins(side)]
        names = [side.name for side in sides if side in joining or not side.end.offload]
        if names:
            with self._wire.entered():
                offloads.switch(names, offloads.SEGMENTATION, on=False)
        for side in joining:
            with side.end.namespace.entered():
                offloads.switch([side.end.interface], (offloads.RECEIVE,), on=True)

    def frame_limit_bytes(self, channel: Channel) -> int:
        """Return how long a frame may be that passes a direction whole; under netem, a packet."""
        if self._netem:
            return self._mtu + ETHERNET_HEADER_BYTES
        return frame_limit_bytes(channel, self._mtu)

    def _cuts(self, channel: Channel) -> bool:
        """Whether what passes a direction is packets alone."""
        return self.frame_limit_bytes(channel) == self._mtu + ETHERNET_HEADER_BYTES

    def _joins(self, side: _Side) -> bool:
        """Whether an end joins the packets that a shaper has made of frames."""
        return self._cuts(side.channel) and side.end.offload and side.end.tagging is None

    def set_carrier(self, up: bool) -> None:
        """Set the wire's interfaces up or down: their peers gain or lose carrier.

        A VLAN has no peer, and is told.
        """
        self._wire.routing.batch(
            rtnl.set_link(side.index, up=up, what=f"set {side.name} {'up' if up else 'down'}")
            for side in (self._a, self._b)
        )
        for end in (self._a.end, self._b.end):
            if end.tagging is not None:
                routing = end.namespace.routing
                index = rtnl.devices(routing)[end.interface].index
                routing.request(rtnl.set_dormant(index, not up))

    def configure(self, direction: str, channel: Channel) -> None:
        """Change tbf's (and netem's) parameters; the queue keeps what it holds."""
        problem = unsupported(channel, netem=self._netem)
        if problem:
            raise ValueError(problem)
        side = self._side(direction)
        before, side.channel = side.channel, channel
        try:
            self._wire.routing.batch(self._shape(side, change=True))
        except OSError:
            side.channel = before
            raise

    def configured(self, direction: str) -> Channel:
        """Read the qdiscs' parameters back from the kernel."""
        side = self._side(direction)
        rate, limit = tc.parse_token_bucket(self._qdisc(side, tc.SHAPER_HANDLE).options)
        delay_ns, jitter_ns, loss = 0, 0, 0.0
        if self._netem:
            impairment = tc.parse_impairment(self._qdisc(side, tc.IMPAIRMENT_HANDLE).options)
            delay_ns, jitter_ns = impairment.delay_ns, impairment.jitter_ns
            loss = round(impairment.loss, 9)
        asked = side.channel
        queue = asked.queue
        if limit != (_NO_LIMIT_BYTES if queue.limit_bytes is None else queue.limit_bytes):
            queue = type(queue)(limit_bytes=limit, limit_packets=queue.limit_packets)
        return Channel(
            rate_bps=_rate_as_asked(asked.rate_bps, rate),
            delay_ns=delay_ns,
            jitter_ns=jitter_ns,
            loss=loss,
            queue=queue,
            overhead_bytes=asked.overhead_bytes,
        )

    def _qdisc(self, side: _Side, handle: int) -> tc.QdiscStatistics:
        return tc.qdisc(self._wire.routing, side.index, handle)

    def _side(self, direction: str) -> _Side:
        return self._b if direction == "forward" else self._a

    def readings(self) -> dict[str, LinkReading]:
        """Read what tbf counted; its refusals are counted in packets from what came in."""
        return {
            "forward": self._reading("forward", self._a, self._b),
            "backward": self._reading("backward", self._b, self._a),
        }

    def _reading(self, direction: str, entered: _Side, left: _Side) -> LinkReading:
        shaped = self._qdisc(left, tc.SHAPER_HANDLE)
        at_ns = time.monotonic_ns()
        _, offered = tc.filter_statistics(self._wire.routing, entered.index, tc.INGRESS_HOOK)
        waiting = shaped.backlog_frames
        if shaped.sent_bytes and not self._cuts(left.channel):
            # of frames that wait their bytes are known: as many packets as those that were sent
            packets = shaped.backlog_bytes * shaped.sent_packets / shaped.sent_bytes
            waiting = max(waiting, round(packets))
        lost: int | None = None
        refused = offered - shaped.sent_packets - waiting
        if self._netem:
            impaired = self._qdisc(left, tc.IMPAIRMENT_HANDLE)
            lost, refused = impaired.drops, shaped.drops
            waiting = shaped.backlog_frames
        self._drops[direction] = max(self._drops[direction], refused if shaped.drops else 0)
        return LinkReading(
            at_ns=at_ns,
            tx_bytes=shaped.sent_bytes + shaped.sent_packets * left.tag_bytes,
            tx_packets=shaped.sent_packets,
            queue_bytes=shaped.backlog_bytes,
            queue_packets=waiting,
            drops_queue=self._drops[direction],
            drops_loss=lost if self._netem else 0,
            duplicates=0,
            corrupted=0,
        )

    def close(self) -> None:
        """Do nothing: the devices go with their namespaces."""


def _rate_as_asked(asked_bps: int | None, found_bps: int) -> int | None:
    """Return a rate that tbf has, in whole bytes per second, as it was asked for."""
    if found_bps == _UNLIMITED_BPS:
        return None
    if asked_bps is not None and max(asked_bps // 8, 1) * 8 == found_bps:
        return asked_bps
    return found_bps


def host_vlan(end: Attachment, tagging: Tagging, *, dormant: bool) -> Request:
    """Return what makes a host's VLAN."""
    return rtnl.add_vlan(rtnl.Vlan(end.interface, tagging.tag, tagging.near, end.mtu, dormant))


def unsupported(channel: Channel, *, netem: bool) -> str:
    """Return what a channel asks for that this driver does not do, empty if nothing."""
    if channel.queue.limit_packets is not None:
        return "the kernel driver limits queues in bytes, not in packets; use the tap driver"
    if channel.queue.discipline != "drop-tail":
        return f"the kernel driver has no {channel.queue.discipline} queues; use the tap driver"
    for what in ("trace", "burst_loss", "reorder", "duplicate", "corrupt", "jitter_reorders"):
        if getattr(channel, what):
            return f"the kernel driver has no `{what}`; use the tap driver"
    if channel.jitter_distribution is not JitterDistribution.UNIFORM:
        return f"the kernel driver has no {channel.jitter_distribution} jitter; use the tap driver"
    if not netem and (channel.delay_ns or channel.jitter_ns or channel.loss):
        return (
            "the kernel driver shapes rate alone on a kernel without netem; delay, jitter and loss "
            "need the tap driver (or CONFIG_NET_SCH_NETEM)"
        )
    return ""
