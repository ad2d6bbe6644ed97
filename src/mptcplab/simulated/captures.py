"""Packet captures on simulated interfaces, in one pcapng file a host."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import BinaryIO

from mptcplab.network.topology import InterfaceEnd
from mptcplab.scenario.model import Scenario
from mptcplab.simulated.build import Network
from mptcplab.simulated.host import Watcher
from mptcplab.wire.pcap import PcapngWriter
from mptcplab.wire.segment import Segment


class Captures:
    """The capture files of a run, open while it lasts."""

    def __init__(self, network: Network, scenario: Scenario, folder: Path) -> None:
        """Open a file for each host that has an interface to watch."""
        self._streams: list[BinaryIO] = []
        by_host: dict[str, list[InterfaceEnd]] = defaultdict(list)
        for end in scenario.captures:
            by_host[end.host].append(end)
        for name, ends in by_host.items():
            stream = (folder / f"{name}.pcapng").open("wb")
            self._streams.append(stream)
            writer = PcapngWriter(
                stream,
                [end.interface for end in ends],
                snap_bytes=scenario.snaplen_bytes,
                split_trains=True,
            )
            for number, end in enumerate(ends):
                for address in scenario.topology.interface_at(end).addresses:
                    network.hosts[name].watchers[address.ip.packed] = _watch(stream, writer, number)

    def close(self) -> None:
        """Finish the files."""
        for stream in self._streams:
            stream.close()
        self._streams = []


def _watch(stream: BinaryIO, writer: PcapngWriter, interface: int) -> Watcher:
    def see(now_ns: int, segment: Segment) -> None:
        if not stream.closed:  # what drains after the measurement is not captured
            writer.write_segment(now_ns, segment, interface)

    return see
