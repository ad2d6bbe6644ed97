"""What was watched of a host's MPTCP connections, as a run's folder.

Each connection is a flow between "here" and "peer", from the end that has sent more; nothing was
asked for, so there are no links, and nothing to be valid against.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mptcplab.linux.connection_monitor import ConnectionReading, Sockets
from mptcplab.linux.measure.sampler import tcp_columns
from mptcplab.linux.probes import mib
from mptcplab.network.topology import Host, Topology
from mptcplab.results.recording import Recording
from mptcplab.scenario.model import Flow, Scenario
from mptcplab.scenario.to_json import as_plain

HERE: Final = "here"
PEER: Final = "peer"


class MonitorRun:
    """Gathers the rows of one host; finish it, or abandon it."""

    def __init__(self, folder: Path, title: str, interval_ns: int) -> None:
        """Make ready to write ``folder``; raises as RunWriter does."""
        self._recording = Recording(folder, "monitor", platform.release())
        self._writer = self._recording.writer
        self._title = title
        self._interval_ns = interval_ns
        self._first_ns = self._last_ns = 0
        self._connections: dict[int, list[int]] = {}
        """By token: bytes sent and received since it was first seen."""
        self._rows: list[tuple[int, dict[str, Any], list[int]]] = []

    def take(self, sockets: Sockets, readings: Sequence[ConnectionReading]) -> None:
        """Take in the readings of one interval."""
        if not self._last_ns:  # an interval before the first reading, it began
            self._first_ns = self._last_ns = sockets.at_ns - self._interval_ns
        time_ns, interval_ns = sockets.at_ns - self._first_ns, sockets.at_ns - self._last_ns
        self._last_ns = sockets.at_ns
        infos = {each.mptcp.token: each for each in sockets.mptcp if each.mptcp is not None}
        for reading in readings:
            info = infos[reading.token].mptcp
            assert info is not None
            counts = self._connections.setdefault(reading.token, [0, 0])
            moved = [round(bps * interval_ns / 8e9) for bps in (reading.tx_bps, reading.rx_bps)]
            counts[0], counts[1] = counts[0] + moved[0], counts[1] + moved[1]
            row = {"time_ns": time_ns, "interval_ns": interval_ns, "connection": 0}
            self._rows.append((reading.token, row, moved))
            shared = {
                "time_ns": time_ns,
                "host": HERE,
                "flow": self._name(reading.token),
                "connection": 0,
            }
            self._writer.append(
                "connections",
                [
                    shared
                    | {
                        "token": reading.token,
                        "protocol": "fallback" if info.fallback else "mptcp",
                        "subflows": info.subflows,
                        "send_buffer_bytes": infos[reading.token].send_buffer_bytes,
                        "receive_buffer_bytes": infos[reading.token].receive_buffer_bytes,
                        "unacked_bytes": reading.unacked_bytes,
                        "bytes_sent": info.bytes_sent,
                        "bytes_acked": min(info.bytes_acked, info.bytes_sent),
                        "bytes_received": info.bytes_received,
                        "bytes_reinjected": info.bytes_retransmitted,
                    }
                ],
            )
            own = [each for each in sockets.tcp if each.token == reading.token]
            self._writer.append(
                "subflows",
                (
                    shared
                    | {
                        "subflow": number,
                        "local": each.local,
                        "remote": each.remote,
                        "state": each.state,
                        "backup": each.backup,
                        **tcp_columns(tcp),
                    }
                    for number, (each, sample) in enumerate(zip(reading.subflows, own, strict=True))
                    if (tcp := sample.tcp) is not None
                ),
            )

    def finish(self, before: Mapping[str, int], after: Mapping[str, int]) -> Path:
        """Write the folder, with the counters that have moved, and return it."""
        flows = []
        for token, (sent, received) in self._connections.items():
            ends = (HERE, PEER) if sent >= received else (PEER, HERE)
            flows.append(Flow(self._name(token), *ends, client=HERE))
        sends = {flow.name: flow.source == HERE for flow in flows}
        for token, row, moved in self._rows:
            name = self._name(token)
            count = moved[0] if sends[name] else moved[1]
            rate = {"bytes": count, "goodput_bps": count * 8e9 / row["interval_ns"]}
            self._writer.append("flows", [row | rate | {"flow": name, "protocol": "mptcp"}])
        moved_counters = mib.moved(dict(before), dict(after)).items()
        self._writer.append(
            "counters",
            (
                {"host": HERE, "counter": name, "before": old, "after": new}
                for name, (old, new) in moved_counters
            ),
        )
        measured_ns = max(self._last_ns - self._first_ns, 1)
        scenario = Scenario(
            name="monitor",
            title=self._title,
            question="",
            duration_ns=measured_ns,
            topology=Topology("monitor", (Host(HERE, (), ()), Host(PEER, (), ())), (), ()),
            flows=tuple(flows),
            interval_ns=self._interval_ns,
        )
        return self._recording.finish(
            as_plain(scenario),
            {
                "measured_ns": measured_ns,
                "drivers": {},
                "flows": [
                    {
                        "flow": flow.name,
                        "connection": 0,
                        "protocol": "mptcp",
                        "bytes": max(self._connections[int(flow.name, 16)]),
                        "drained_bytes": 0,
                        "intact": None,
                        "end_ns": None,
                        "errors": [],
                    }
                    for flow in flows
                ],
            },
        )

    def abandon(self) -> None:
        """Write nothing."""
        self._writer.abandon()

    def _name(self, token: int) -> str:
        return f"{token:08x}"
