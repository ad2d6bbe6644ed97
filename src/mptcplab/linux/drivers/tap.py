"""A link through the TAP emulator: the link model of the simulator, in real time."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Final

from mptcplab.linux.drivers.driver import DIRECTIONS, Attachment, LinkDriver, LinkReading
from mptcplab.linux.emulator import DirectionReading, EmulatedEnd, EmulatedLink, open_tap
from mptcplab.linux.kernel import rtnl
from mptcplab.network.channel import PIECE_NS
from mptcplab.network.impairments import CapacityTrace
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.topology import ETHERNET_HEADER_BYTES, Channel

_LONGEST_PIECE_NS: Final = 1_000_000


class TapDriver(LinkDriver):
    """Two TAP devices, one at each end, and the emulator's process between them."""

    def __init__(
        self,
        link: str,
        ends: tuple[Attachment, Attachment],
        channels: tuple[Channel, Channel],
        *,
        seed: int,
        up: bool,
        traces: tuple[CapacityTrace, ...] = (),
        boxes: tuple[tuple[MiddleboxPlan, ...], tuple[MiddleboxPlan, ...]] = ((), ()),
    ) -> None:
        """Make the two devices, in their namespaces; frames pass once :meth:`start` is called.

        ``traces`` are the capacities that channels will be given, ``boxes`` the middleboxes at the
        two ends, which do nothing until they are switched on.
        """
        self.name = "tap"
        self._link = link
        self._ends = ends
        self._channels = dict(zip(DIRECTIONS, channels, strict=True))
        self._seed = seed
        self._up = up
        self._traces = traces
        self._boxes = boxes
        self._emulator: EmulatedLink | None = None
        self._descriptors: list[int] = []
        for end in ends:
            with end.namespace.entered():
                self._descriptors.append(open_tap(end.interface, offload=end.offload))
            channel = end.namespace.routing
            index = rtnl.devices(channel)[end.interface].index
            channel.request(rtnl.set_link(index, mtu=end.mtu, what=f"MTU of {end.interface}"))

    @property
    def emulator(self) -> EmulatedLink:
        """The emulated link, for its lateness and CPU time; RuntimeError before the start."""
        if self._emulator is None:
            raise RuntimeError(f"link {self._link} has not been started")
        return self._emulator

    def start(self) -> None:
        """Start the emulator's process, which takes the two devices over."""
        forward, backward = (self._parameters(self._channels[d]) for d in DIRECTIONS)
        a, b = self._descriptors
        self._emulator = EmulatedLink.start(
            self._link,
            a,
            b,
            forward,
            backward,
            seed=self._seed,
            piece_ns=_piece_ns(forward.delay_ns + backward.delay_ns),
            ends=(
                EmulatedEnd(self._ends[0].offload, self._boxes[0]),
                EmulatedEnd(self._ends[1].offload, self._boxes[1]),
            ),
            traces=self._traces,
        )
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        if not self._up:
            self._set_interfaces_carrier(up=False)

    def set_carrier(self, up: bool) -> None:
        """Plug in or pull: the model loses what it holds, and both devices change carrier."""
        self._up = up
        if up:
            self._set_interfaces_carrier(up=True)
        self.emulator.set_up(up)
        if not up:
            self._set_interfaces_carrier(up=False)

    def _set_interfaces_carrier(self, *, up: bool) -> None:
        for end in self._ends:
            channel = end.namespace.routing
            index = rtnl.devices(channel)[end.interface].index
            channel.request(rtnl.set_carrier(index, up))

    def configure(self, direction: str, channel: Channel) -> None:
        """Change the model's parameters; what is under way keeps its time of arrival."""
        wanted = self._parameters(channel)
        if direction == "forward":
            self.emulator.configure(forward=wanted)
        else:
            self.emulator.configure(backward=wanted)
        self._channels[direction] = channel

    def _parameters(self, channel: Channel) -> ChannelParameters:
        frame_bytes = max(end.mtu for end in self._ends) + ETHERNET_HEADER_BYTES
        return ChannelParameters.of(channel, up=self._up, frame_bytes=frame_bytes)

    def configured(self, direction: str) -> Channel:
        """Return the parameters that the emulator was last given and has confirmed."""
        parameters = getattr(self.emulator, direction)
        asked = self._channels[direction]
        return replace(
            asked,
            rate_bps=parameters.rate_bps,
            delay_ns=parameters.delay_ns,
            jitter_ns=parameters.jitter_ns,
            jitter_distribution=parameters.jitter_distribution,
            jitter_reorders=parameters.jitter_reorders,
            reorder=parameters.reorder,
            loss=parameters.loss,
            burst_loss=parameters.burst_loss,
            duplicate=parameters.duplicate,
            corrupt=parameters.corrupt,
            queue=replace(
                asked.queue,
                limit_bytes=parameters.queue_bytes,
                limit_packets=parameters.queue_packets,
                target_ns=parameters.target_ns,
                interval_ns=parameters.interval_ns,
                quantum_bytes=parameters.quantum_bytes,
            ),
            overhead_bytes=parameters.overhead_bytes,
            trace=parameters.trace,
        )

    def readings(self) -> dict[str, LinkReading]:
        """Ask the emulator for its counters."""
        reading = self.emulator.read()
        return {
            direction: _translate(reading.at_ns, getattr(reading, direction))
            for direction in DIRECTIONS
        }

    def interrupt(self) -> None:
        """Let the emulator's process begin to end; :meth:`close` waits for it."""
        if self._emulator is not None and self._emulator.is_alive():
            os.kill(self._emulator.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the emulator's process; the devices go with their namespaces."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        self.interrupt()
        if self._emulator is not None:
            self._emulator.stop()
            self._emulator = None


def _piece_ns(rtt_ns: int) -> int:
    """Return how much of a train is delivered at a time on a link of that round trip.

    A fiftieth of the round trip is less than what a transport notices; below and above that, the
    model's own default and a millisecond are the bounds.  Long pieces are cheap: at 100 us a link
    of 300 Mb/s delivers two packets at a time and costs as much CPU as one of several Gb/s.
    """
    return min(max(PIECE_NS, rtt_ns // 50), _LONGEST_PIECE_NS)


def _translate(at_ns: int, direction: DirectionReading) -> LinkReading:
    return LinkReading(
        at_ns=at_ns,
        tx_bytes=direction.counters["sent_bytes"],
        tx_packets=direction.counters["sent_packets"],
        queue_bytes=direction.counters["queued_bytes"],
        queue_packets=direction.counters["queued_packets"],
        queue_peak_bytes=direction.counters["queue_peak_bytes"],
        drops_queue=direction.counters["queue_drop_packets"],
        marks=direction.counters["mark_packets"],
        drops_loss=direction.counters["loss_packets"],
        drops_down=direction.counters["down_packets"],
        duplicates=direction.counters["duplicate_packets"],
        corrupted=direction.counters["corrupt_packets"],
    )
