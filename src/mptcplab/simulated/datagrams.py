"""UDP in virtual time: datagrams at a rate, which links delay, queue and drop as any packet."""

from __future__ import annotations

from typing import Final

from mptcplab.applications.exchange import Exchange
from mptcplab.applications.messages import MessageSource
from mptcplab.applications.workloads import Messages
from mptcplab.loop import Loop, Timer
from mptcplab.network.topology import Path
from mptcplab.scenario.model import Flow
from mptcplab.simulated.build import packed_address
from mptcplab.simulated.host import Host
from mptcplab.simulated.parcel import Parcel
from mptcplab.simulated.transfer import Transfer
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.units import NANOSECONDS
from mptcplab.wire.ip import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES
from mptcplab.wire.segment import Segment

UDP_HEADER_BYTES: Final = 8  # RFC 768
_LAST_ARRIVALS_NS: Final = 2 * NANOSECONDS
"""How long after the last datagram one may still arrive."""


class DatagramTransfer(Transfer):
    """The datagrams of a flow: there is no connection to sample."""

    __slots__ = ("_flow_of",)

    def __init__(self, flow: Flow, owner: DatagramFlow) -> None:
        super().__init__(flow, 0)
        self._flow_of = owner
        self.begun_ns = flow.start_ns

    def attach(self, host: str, connection: Connection) -> None:
        """Never called: nothing is connected."""

    def stop(self) -> None:
        """Send no more."""
        self._flow_of.stop()

    def ends(self) -> list[tuple[Host, Connection]]:
        """Return nothing to sample."""
        return []

    @property
    def sending(self) -> Connection | None:
        """No connection."""
        return None

    @property
    def receiving(self) -> Connection | None:
        """No connection."""
        return None

    @property
    def written_bytes(self) -> int:
        """What was read: what was lost is not waited for."""
        return self.delivered_bytes

    @property
    def is_sampled(self) -> bool:
        """There is nothing to sample."""
        return False

    @property
    def intact(self) -> bool | None:
        """Datagrams may be lost, so nothing is known of the whole."""
        return None


class Ticker(Timer):
    """Says when the next datagram is due."""

    __slots__ = ("_flow",)

    def __init__(self, loop: Loop, flow: DatagramFlow) -> None:
        super().__init__(loop)
        self._flow = flow

    def expire(self) -> None:
        """Send it."""
        self._flow.send()


class DatagramFlow:
    """A sender of datagrams over one path, and who notes their arrival."""

    def __init__(
        self, flow: Flow, workload: Messages, seed: int, path: Path, hosts: tuple[Host, Host]
    ) -> None:
        """``hosts`` are the sender and the receiver."""
        self.transfer = DatagramTransfer(flow, self)
        self.sent: list[Exchange] = []
        self._flow, self._workload, self._seed = flow, workload, seed
        self._local = packed_address(path.local_address)
        self._remote = packed_address(path.remote_address)
        self._sender, self._receiver = hosts
        self._source: MessageSource | None = None
        self._port = 0
        self._is_over = False
        self._ticker = Ticker(self._sender.loop, self)

    def listen(self, port: int) -> None:
        """Let the receiver take what comes for a port."""
        self._port = port
        self._receiver.datagram_sinks[port] = self._arrive

    def start(self) -> None:
        """Send the first one."""
        now_ns = self._sender.loop.now_ns
        self._source = MessageSource(self._workload, self._seed, self._flow.name, 0, now_ns)
        self.send()

    def stop(self) -> None:
        """Send no more; what is under way may still arrive."""
        self._ticker.cancel()
        if not self._is_over:
            self._is_over = True
            loop = self._sender.loop
            loop.call_at(loop.now_ns + _LAST_ARRIVALS_NS, self._end)

    def send(self) -> None:
        """Send the datagram that is due."""
        if self._source is None or self._is_over:
            return
        datagram = self._source.next(len(self.sent), 0)
        self.sent.append(datagram)
        route = self._sender.routes[self._local][self._remote]
        segment = Segment(
            self._local,
            self._port,
            self._remote,
            self._port,
            seq=datagram.number,
            payload_bytes=datagram.request_bytes,
            segment_size_bytes=datagram.request_bytes,
        )
        ip_bytes = IPV4_HEADER_BYTES if len(self._local) == 4 else IPV6_HEADER_BYTES
        header_bytes = ip_bytes + UDP_HEADER_BYTES + route.frame_header_bytes
        route.first.send(Parcel(segment, route, header_bytes, 0))
        if len(self.sent) == self._workload.count:
            self.stop()
        else:
            self._ticker.set(self._source.due_ns)

    def _arrive(self, segment: Segment) -> None:
        datagram = self.sent[segment.seq]
        if datagram.end_ns is None:
            datagram.end_ns = self._receiver.loop.now_ns
            self.transfer.delivered_bytes += datagram.request_bytes

    def _end(self) -> None:
        self.transfer.end_ns = self._sender.loop.now_ns
