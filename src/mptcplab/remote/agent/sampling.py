"""Samples of an agent's host: its sockets, interfaces, round trips and counters, at one instant."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mptcplab.linux.probes.diag import DiagSocket, MptcpInfo, SocketSample, TcpInfo
from mptcplab.linux.probes.rtt import RttProber

TCP_FIELDS: Final = tuple(field.name for field in dataclasses.fields(TcpInfo))
MPTCP_FIELDS: Final = tuple(field.name for field in dataclasses.fields(MptcpInfo))
SOCKET_FIELDS: Final = tuple(
    field.name
    for field in dataclasses.fields(SocketSample)
    if field.name not in ("tcp", "mptcp", "key", "inode")
)
MOST_SOCKETS: Final = 2048
_SEARCH_NS: Final = 250_000_000
_SIOCGIFFLAGS: Final = 0x8913  # include/uapi/linux/sockios.h
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40
_DEVICE_COLUMNS: Final = {"rx_bytes": 0, "rx_packets": 1, "tx_bytes": 8, "tx_packets": 9}


class HostSampler:
    """Takes samples of this host; create it in the network namespace that is meant."""

    def __init__(
        self,
        interfaces: list[str],
        probes: list[dict[str, str]],
        ports: list[int],
        progress: Callable[[], dict[str, list[int]]],
    ) -> None:
        """``probes`` name what to send echoes to: key, interface, local and remote address.

        ``progress`` tells how far each end of a flow is.
        """
        self._progress = progress
        self._diag = DiagSocket()
        self._interfaces = interfaces
        self._ports = frozenset(ports)
        self._asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._known: list[SocketSample] = []
        self._search_ns = 0
        self._probers = {
            probe["key"]: RttProber(probe["interface"], probe["local"], probe["remote"])
            for probe in probes
        }

    def sockets(self) -> dict[str, Any]:
        """Return the sockets of the flows, and MPTCP's others: fields in their order.

        What the flows' ends have done is read at the time that the sample names; sockets a little
        later.
        """
        at_ns, done = time.monotonic_ns(), self._progress()
        tcp = [each for each in self._diag.tcp() if self._is_ours(each)]
        mptcp = [each for each in self._diag.mptcp() if self._is_ours(each)]
        self._known = [*tcp[:MOST_SOCKETS], *mptcp[:MOST_SOCKETS]]
        return _sockets(at_ns, self._known) | {"bytes": done}

    def look(self) -> dict[str, Any]:
        """Return the sockets of the flows that are known; others are searched for now and then,
        which takes milliseconds.
        """
        at_ns = time.monotonic_ns()
        if at_ns >= self._search_ns:
            self._search_ns = at_ns + _SEARCH_NS
            return self.sockets()
        self._known = self._diag.look(self._known)
        return _sockets(at_ns, self._known) | {"bytes": {}}

    def whole(self) -> dict[str, Any]:
        """Return a sample of everything, and send the next echoes."""
        sample = self.sockets()
        sample["interfaces"] = self._devices()
        sample["rtt"] = {}
        for key, prober in self._probers.items():
            answers = prober.collect()
            if answers:
                sample["rtt"][key] = answers[-1]
            prober.send()
        sample["cpu"] = _cpu()
        return sample

    def _is_ours(self, sample: SocketSample) -> bool:
        """Leave out what is neither a flow's nor, since servers announce ports, MPTCP's."""
        ports = {sample.local_port, sample.remote_port}
        of_mptcp = sample.token is not None or sample.mptcp is not None
        return of_mptcp or bool(ports & self._ports)

    def _devices(self) -> dict[str, dict[str, Any]]:
        at_ns = time.monotonic_ns()
        readings: dict[str, dict[str, Any]] = {}
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]:
            name, _, numbers = line.rpartition(":")
            name = name.strip()
            if name in self._interfaces:
                fields = numbers.split()
                counts = {key: int(fields[place]) for key, place in _DEVICE_COLUMNS.items()}
                readings[name] = {"at_ns": at_ns, "up": self._runs(name), **counts}
        return readings

    def _runs(self, interface: str) -> bool:
        """Say whether an interface is up and has a carrier."""
        request = struct.pack("16sH14x", interface.encode(), 0)
        with contextlib.suppress(OSError):
            answer = fcntl.ioctl(self._asking.fileno(), _SIOCGIFFLAGS, request)
            flags: int = struct.unpack_from("16xH", answer)[0]
            return bool(flags & _IFF_UP and flags & _IFF_RUNNING)
        return False

    def close(self) -> None:
        """Close every socket."""
        self._diag.close()
        self._asking.close()
        for prober in self._probers.values():
            prober.close()


def _sockets(at_ns: int, samples: list[SocketSample]) -> dict[str, Any]:
    return {
        "at_ns": at_ns,
        "tcp": [plain_socket(each) for each in samples if each.mptcp is None],
        "mptcp": [plain_socket(each) for each in samples if each.mptcp is not None],
    }


def plain_socket(sample: SocketSample) -> list[Any]:
    """Return a socket as a list: its own fields, then those of TCP_INFO and MPTCP_INFO or null."""
    return [
        [getattr(sample, name) for name in SOCKET_FIELDS],
        sample.tcp and [getattr(sample.tcp, name) for name in TCP_FIELDS],
        sample.mptcp and [getattr(sample.mptcp, name) for name in MPTCP_FIELDS],
    ]


def _cpu() -> list[int]:
    """Return the machine's busy and whole CPU time since it started (clock ticks, proc(5))."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    ticks = [int(word) for word in words]
    return [sum(ticks) - ticks[3] - ticks[4], sum(ticks)]
