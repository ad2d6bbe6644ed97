"""Reading the simulated network at each interval, into the rows of the run's tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mptcplab.network.counters import ChannelCounters
from mptcplab.network.translation import seen_as
from mptcplab.results.observer import Observer
from mptcplab.results.writer import RunWriter
from mptcplab.scenario.model import Scenario
from mptcplab.simulated.build import Network
from mptcplab.simulated.host import Host
from mptcplab.simulated.transfer import Transfer
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.readings import connection_columns, limit_rows, subflow_columns
from mptcplab.units import NANOSECONDS


class Sampler:
    """Writes one row per flow, link, subflow and connection at every interval.

    And, by :meth:`sample`, ahead of each action of the timeline, so that no row straddles one.
    """

    def __init__(
        self,
        network: Network,
        scenario: Scenario,
        transfers: list[Transfer],
        writer: RunWriter,
        observer: Observer,
        links: LinkNames,
        look: Callable[[], None],
    ) -> None:
        """Take what :func:`links_by_address` returns, and who looks besides at each sample."""
        self._look = look
        self._network = network
        self._scenario = scenario
        self._transfers = transfers
        self._writer = writer
        self._observer = observer
        self._last_ns = 0
        self._delivered = [0] * len(transfers)
        self._busy_ns: dict[tuple[str, Connection], int] = {}
        self._open: dict[tuple[str, Connection], list[MptcpSubflow]] = {}
        self._counters = {key: ChannelCounters() for key in network.conduits}
        self._link_of = links
        self._timer = network.loop.call_at(scenario.interval_ns, self._expire)

    def cancel(self) -> None:
        """Take no more samples."""
        self._timer.cancel()

    def _expire(self) -> None:
        """Take a sample and wait for the next."""
        self.sample()
        now_ns = self._network.loop.now_ns
        if now_ns < self._scenario.duration_ns:
            self._timer.set(min(now_ns + self._scenario.interval_ns, self._scenario.duration_ns))

    def sample(self) -> None:
        """Write what happened since the last sample."""
        now_ns = self._network.loop.now_ns
        interval_ns = now_ns - self._last_ns
        if interval_ns <= 0:
            return
        self._last_ns = now_ns
        flows = self._flow_rows(now_ns, interval_ns)
        links = self._link_rows(now_ns, interval_ns)
        self._writer.append("flows", flows)
        self._writer.append("links", links)
        for transfer in self._transfers:
            for host, connection in transfer.ends():
                self._sample_connection(transfer, host, connection, now_ns)
        self._look()
        self._tell(now_ns, flows, links)

    def _tell(self, now_ns: int, flows: list[dict[str, Any]], links: list[dict[str, Any]]) -> None:
        rates: dict[str, float] = {}
        for row in flows:
            rates[row["flow"]] = rates.get(row["flow"], 0.0) + row["goodput_bps"]
        both: dict[str, tuple[float, float]] = {}
        rtts: dict[str, int | None] = {}
        for forward, backward in zip(links[::2], links[1::2], strict=True):
            both[forward["link"]] = (forward["bps"], backward["bps"])
            rtts[forward["link"]] = forward["rtt_ns"]
        self._observer.tick(now_ns, rates, both, rtts)

    def _flow_rows(self, now_ns: int, interval_ns: int) -> list[dict[str, Any]]:
        rows = []
        for place, transfer in enumerate(self._transfers):
            size_bytes = transfer.delivered_bytes - self._delivered[place]
            self._delivered[place] = transfer.delivered_bytes
            rows.append(
                {
                    "time_ns": now_ns,
                    "interval_ns": interval_ns,
                    "flow": transfer.flow.name,
                    "connection": transfer.index,
                    "protocol": transfer.protocol,
                    "bytes": size_bytes,
                    "goodput_bps": size_bytes * 8 * NANOSECONDS / interval_ns,
                }
            )
        return rows

    def _link_rows(self, now_ns: int, interval_ns: int) -> list[dict[str, Any]]:
        rows = []
        for link in self._scenario.topology.links:
            rtt_ns = 0
            pair = []
            for direction in ("forward", "backward"):
                conduit = self._network.conduits[link.name, direction]
                channel = conduit.channel
                parameters = channel.parameters
                rtt_ns += parameters.delay_ns + channel.backlog_ns(now_ns)
                now = channel.read_counters(now_ns)
                before = self._counters[link.name, direction]
                self._counters[link.name, direction] = now
                size_bytes = now.sent_bytes - before.sent_bytes
                pair.append(
                    {
                        "time_ns": now_ns,
                        "interval_ns": interval_ns,
                        "link": link.name,
                        "direction": direction,
                        "up": parameters.up,
                        "rate_bps": channel.mean_rate_bps(now_ns - interval_ns, now_ns),
                        "tx_bytes": size_bytes,
                        "tx_packets": now.sent_packets - before.sent_packets,
                        "bps": size_bytes * 8 * NANOSECONDS / interval_ns,
                        "queue_bytes": now.queued_bytes,
                        "queue_packets": now.queued_packets,
                        "drops_queue": now.queue_drop_packets - before.queue_drop_packets,
                        "marks": now.mark_packets - before.mark_packets,
                        "drops_loss": now.loss_packets - before.loss_packets,
                        "drops_down": now.down_packets - before.down_packets,
                        "duplicates": now.duplicate_packets - before.duplicate_packets,
                        "corrupted": now.corrupt_packets - before.corrupt_packets,
                        "rtt_ns": None,
                    }
                )
            if pair[0]["up"]:
                pair[0]["rtt_ns"] = rtt_ns
            rows += pair
        return rows

    def _sample_connection(
        self, transfer: Transfer, host: Host, connection: Connection, now_ns: int
    ) -> None:
        shared = {
            "time_ns": now_ns,
            "host": host.name,
            "flow": transfer.flow.name,
            "connection": transfer.index,
        }
        self._writer.append(
            "subflows",
            [
                shared | self._subflow_columns((transfer.flow.name, host.name), connection, subflow)
                for subflow in self._subflows(host.name, connection)
            ],
        )
        if connection.subflows and host.copies_cost:
            self._busy_ns[host.name, connection] = host.busy_ns(connection)
        own = {
            "protocol": transfer.protocol,
            "cpu_ns": self._busy_ns.get((host.name, connection)),
        }
        self._writer.append("connections", [shared | own | connection_columns(connection)])
        if connection is transfer.sending and transfer.flow.workload is None:
            self._writer.append(
                "limits",
                [shared | row for row in limit_rows(connection.send.limits, now_ns)],
            )

    def _subflows(self, host: str, connection: Connection) -> list[MptcpSubflow]:
        """Return the subflows there are, and once more those that closed since the last sample."""
        present = list(connection.subflows)
        before = self._open.get((host, connection), ())
        gone = [subflow for subflow in before if subflow not in present]
        self._open[host, connection] = present
        return sorted(present + gone, key=lambda subflow: subflow.subflow_id)

    def _subflow_columns(
        self, of: tuple[str, str], connection: Connection, subflow: MptcpSubflow
    ) -> dict[str, Any]:
        """Return the columns of a subflow ``of`` a flow, at a host."""
        link = self._link_of.get((*of, subflow.tcp.local, subflow.tcp.remote))
        return {"subflow": subflow.subflow_id, "link": link} | subflow_columns(connection, subflow)


LinkNames = dict[tuple[str, str, bytes, bytes], str]
"""The link that names a way: by flow, host, and the addresses of its sockets, own and peer's."""


def links_by_address(scenario: Scenario) -> LinkNames:
    """Return the link that names the way from one address to another, as each host sees them.

    The first one, and through routers, behind which one link may serve many, the slowest.
    """
    links: LinkNames = {}
    for flow in scenario.flows:
        ends = (flow.source, flow.destination)
        for here, there in (ends, ends[::-1]):
            for path in scenario.topology.paths(here, there, multipath=False):
                if path.links:
                    pair = (path.local_address.ip.packed, path.remote_address.ip.packed)
                    slowest = scenario.topology.bottleneck(path)
                    name = slowest if path.routed else path.links[0]
                    links[flow.name, here, *pair] = name
                    if seen := seen_as(scenario.topology, path):
                        shown = (flow.name, there, pair[1], seen[1].ip.packed)
                        links.setdefault(shown, name)
    return links
