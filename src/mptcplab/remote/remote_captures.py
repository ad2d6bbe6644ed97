"""The captures that a scenario asks for on real hosts, fetched into the run's folder at the end."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Final

from mptcplab.network.topology import InterfaceEnd
from mptcplab.remote.answers import CAPTURED, shown
from mptcplab.remote.errors import HostsError
from mptcplab.remote.fleet import Fleet, checked

_MOST_BYTES: Final = 256 << 20
"""Of each capture, in the host's memory."""
_CHUNK_MOST: Final = 2 << 20


class RemoteCaptures:
    """Captures on the interfaces of a fleet, from :meth:`start` to :meth:`fetch`."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        """Take where to write what comes."""
        self._fleet = fleet
        self._folder = folder
        self._ends = [end for end in fleet.scenario.captures if end.host in fleet.set_ups]
        self.lost: list[str] = []
        """The interfaces whose captures had ended before the run did."""

    def start(self) -> None:
        """Start them, and wait until each listens; HostsError where one does not."""
        for end in self._ends:
            self._fleet.lines[end.host].ask(
                "capture",
                interface=self._real(end),
                snaplen=self._fleet.scenario.snaplen_bytes,
                most_bytes=_MOST_BYTES,
            )

    def fetch(self) -> None:
        """End them, and write what they have; HostsError where a host does not answer."""
        for end in self._ends:
            line, interface = self._fleet.lines[end.host], self._real(end)
            captured = checked(
                line, CAPTURED, line.ask("captured", interface=interface), "captured"
            )
            if not captured["whole"]:
                self.lost.append(str(end))
            with (self._folder / f"{end.host}-{end.interface}.pcap").open("wb") as file:
                while file.tell() < min(captured["bytes"], 2 * _MOST_BYTES):
                    answer = line.ask("read", interface=interface, start=file.tell())
                    file.write(_decoded(end, answer.get("data")))

    def _real(self, end: InterfaceEnd) -> str:
        return self._fleet.set_ups[end.host].interfaces[end.interface]


def _decoded(end: InterfaceEnd, value: object) -> bytes:
    """Return a part of a capture; HostsError for what is none."""
    data = b""
    if isinstance(value, str) and len(value) < 2 * _CHUNK_MOST:
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            data = b""
    if not data:
        raise HostsError(
            f"{end.host}: its agent answers nonsense: capture of {end.interface}: {shown(value)}"
        )
    return data
