"""The scenarios: lossy paths without queues, and one bottleneck shared with TCP."""

from __future__ import annotations

from dataclasses import dataclass

from bench.equilibria.closed_forms import LossyPath
from bench.equilibria.hosts import ENDLESS_BYTES, PORT, Laboratory

from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.wire import CallbackWire
from mptcplab.simulated.build import TRAINS_PER_WINDOW
from mptcplab.stack.config import CongestionFactory, StackConfig
from mptcplab.stack.congestion.lia import Lia
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.path_managers import InitialOnly, NdiffPorts, PathManager
from mptcplab.stack.path_managers.base import Command, OpenSubflow, PathView, RemoteAddress
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt

MS = 1_000_000
SECOND = 1_000_000_000
MSS = 1400


def client_address(number: int) -> bytes:
    """Return the client's address on path ``number``."""
    return bytes((10, 0, number, 1))


def server_address(number: int) -> bytes:
    """Return the server's address on path ``number``."""
    return bytes((10, 0, number, 2))


class OnePerPath(PathManager):
    """The client opens one subflow on each path, without announcements."""

    def __init__(self, paths: int) -> None:
        self.paths = paths

    def on_established(self, view: PathView) -> list[Command]:
        """Open the second and further paths."""
        if not view.is_client:
            return []
        return [
            OpenSubflow(
                number + 1,
                client_address(number),
                RemoteAddress(number + 1, server_address(number), PORT),
            )
            for number in range(1, self.paths)
        ]


def bulk_config(congestion: CongestionFactory, **changes: object) -> StackConfig:
    """Return a configuration whose buffers never limit, of hosts that send packet by packet.

    The windows here are of tens of packets and more: trains are parts of them.
    """
    config = StackConfig(congestion, LowestRtt, InitialOnly)
    config.mss_bytes = MSS
    config.send_buffer_bytes = ENDLESS_BYTES
    config.send_buffer_max_bytes = 0
    config.receive_buffer_bytes = 1 << 28
    config.receive_buffer_max_bytes = 0
    config.max_subflows = 64
    config.offload = False
    config.trains_per_window = TRAINS_PER_WINDOW
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def subflow_bytes(connection: Connection) -> dict[int, int]:
    """Return the bytes acknowledged so far, by subflow."""
    return {one.subflow_id: one.tcp.sender.snd_una for one in connection.subflows}


@dataclass(slots=True)
class Rates:
    """What was measured: segments per second, per subflow of each connection."""

    segments_per_s: list[list[float]]
    wires: list[CallbackWire]
    """The wires that carried the data."""
    segments_per_train: float

    def total(self, connection: int = 0) -> float:
        """Return the sum over the subflows of one connection."""
        return sum(self.segments_per_s[connection])


def measure(
    laboratory: Laboratory,
    connections: list[Connection],
    wires: list[CallbackWire],
    warm_s: float,
    duration_s: float,
) -> Rates:
    """Run ``warm_s``, then count for ``duration_s``."""
    loop = laboratory.loop
    loop.run(loop.now_ns + int(warm_s * SECOND))
    before = [subflow_bytes(one) for one in connections]
    loop.run(loop.now_ns + int(duration_s * SECOND))
    rates = []
    for connection, start in zip(connections, before, strict=True):
        segment_bytes = int(connection.subflows[0].tcp.sender.mss_bytes)
        end = subflow_bytes(connection)
        sent = [int(end[one] - start[one]) for one in sorted(end)]
        rates.append([size / segment_bytes / duration_s for size in sent])
    subflows = [subflow for connection in connections for subflow in connection.subflows]
    senders = [subflow.tcp.sender for subflow in subflows]
    trains = sum(int(one.counters.sent_trains) for one in senders)
    segments = sum(int(one.counters.sent_bytes) / int(one.mss_bytes) for one in senders)
    return Rates(rates, wires, segments / trains)


def lossy_paths(
    congestion: CongestionFactory,
    paths: list[LossyPath],
    seed: int,
    warm_s: float,
    duration_s: float,
    **changes: object,
) -> Rates:
    """One connection with one subflow per path; nothing but the given loss limits it."""
    laboratory = Laboratory(seed)
    client = laboratory.host(bulk_config(congestion))
    server = laboratory.host(bulk_config(congestion))
    wires = []
    for number, path in enumerate(paths):
        delay_ns = int(path.rtt_ms * MS / 2)
        forth = laboratory.wire(ChannelParameters(delay_ns=delay_ns, loss=path.loss))
        back = laboratory.wire(ChannelParameters(delay_ns=delay_ns))
        wires.append(forth)
        client.wires[server_address(number)] = forth
        server.wires[client_address(number)] = back
        client.stack.add_address(client_address(number), number + 1)
        server.stack.add_address(server_address(number), number + 1)
    server.stack.listen(PORT)
    config = bulk_config(congestion, path_manager=lambda: OnePerPath(len(paths)), **changes)
    connection = laboratory.transfer(client, server, config)
    return measure(laboratory, [connection], wires, warm_s, duration_s)


def shared_bottleneck(
    congestion: CongestionFactory,
    subflows: int,
    link: ChannelParameters,
    seed: int,
    warm_s: float,
    duration_s: float,
) -> Rates:
    """One connection of ``subflows`` subflows (the first) and one TCP through the same link.

    ``link`` is the direction of the data; acknowledgments come back with its delay. TCP is
    NewReno and starts a little later, from a host of its own.
    """
    laboratory = Laboratory(seed)
    forth = laboratory.wire(link)
    back = laboratory.wire(ChannelParameters(delay_ns=link.delay_ns))
    server = laboratory.host(bulk_config(congestion))
    server.stack.add_address(server_address(0), 1)
    server.stack.listen(PORT)
    connections = []
    configs = [
        bulk_config(congestion, path_manager=lambda: NdiffPorts(subflows)),
        bulk_config(NewReno, mptcp=False),
    ]
    for number, config in enumerate(configs):
        client = laboratory.host(config)
        client.stack.add_address(client_address(number), 1)
        client.wires[server_address(0)] = forth
        server.wires[client_address(number)] = back
        connections.append(laboratory.transfer(client, server, config))
        laboratory.loop.run(laboratory.loop.now_ns + laboratory.random.randrange(SECOND // 10))
    return measure(laboratory, connections, [forth], warm_s, duration_s)


def wifi_and_3g(
    retransmits: bool,
    penalises: bool,
    receive_buffer_bytes: int,
    seed: int,
    warm_s: float,
    duration_s: float,
) -> float:
    """Return the goodput, in Mb/s, over the WiFi and 3G links of NSDI 2012, figure 4.

    Raiciu et al., "How Hard Can It Be?": WiFi 8 Mb/s, 20 ms round trip, 80 ms of queue; 3G
    2 Mb/s, 150 ms, 2 s of queue. LIA, lowest RTT first, a receive buffer of fixed size.
    """
    laboratory = Laboratory(seed)
    config = bulk_config(
        Lia,
        path_manager=lambda: OnePerPath(2),
        scheduler=lambda: LowestRtt(retransmits, penalises),
        receive_buffer_bytes=receive_buffer_bytes,
    )
    client, server = laboratory.host(config), laboratory.host(config)
    for number, (rate_bps, rtt_ms, queue_ms) in enumerate(
        ((8_000_000, 20, 80), (2_000_000, 150, 2000))
    ):
        delay_ns = rtt_ms * MS // 2
        queue_bytes = rate_bps * queue_ms // 8000
        link = ChannelParameters(rate_bps=rate_bps, delay_ns=delay_ns, queue_bytes=queue_bytes)
        client.wires[server_address(number)] = laboratory.wire(link)
        server.wires[client_address(number)] = laboratory.wire(ChannelParameters(delay_ns=delay_ns))
        client.stack.add_address(client_address(number), number + 1)
        server.stack.add_address(server_address(number), number + 1)
    server.stack.listen(PORT)
    connection = laboratory.transfer(client, server, config)
    laboratory.loop.run(int(warm_s * SECOND))
    before = connection.data_acked_bytes()
    laboratory.loop.run(int((warm_s + duration_s) * SECOND))
    return (connection.data_acked_bytes() - before) * 8 / duration_s / 1e6
