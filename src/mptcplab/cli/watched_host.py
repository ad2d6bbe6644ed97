"""The host that ``mptcplab monitor`` watches: this one, or another over SSH."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mptcplab.linux.connection_monitor import Sockets
    from mptcplab.linux.probes.diag import DiagSocket
    from mptcplab.remote.ssh import AgentLine


class WatchedHost(ABC):
    """A host whose sockets and counters can be asked for."""

    name: str

    @abstractmethod
    def look(self) -> Sockets:
        """Return its TCP sockets and MPTCP connections."""

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """Return its MIB counters."""


@contextmanager
def watched_host(ssh: str | None) -> Iterator[WatchedHost]:
    """Give the host of an SSH destination, or this one; HostsError where it cannot be reached."""
    if ssh is None:
        from mptcplab.linux.probes.diag import DiagSocket

        with closing(DiagSocket()) as diag:
            yield _ThisHost(diag)
        return
    from mptcplab.remote.ssh import AgentLine, SshThread, unpack_target

    target = unpack_target("--ssh", ssh)
    with SshThread() as thread:
        line = AgentLine(target.address, target, thread, watch=True)
        with closing(line):
            line.open()
            yield _OverSsh(line)


class _ThisHost(WatchedHost):
    name = "this host"

    def __init__(self, diag: DiagSocket) -> None:
        self._diag = diag

    def look(self) -> Sockets:
        import time

        from mptcplab.linux.connection_monitor import Sockets

        return Sockets(time.monotonic_ns(), self._diag.tcp(), self._diag.mptcp())

    def counters(self) -> dict[str, int]:
        from mptcplab.linux.probes.mib import read_counters

        return read_counters()


class _OverSsh(WatchedHost):
    def __init__(self, line: AgentLine) -> None:
        self.name = line.name
        self._line = line
        line.ask("watch", interfaces=[], probes=[], ports=[])

    def look(self) -> Sockets:
        from mptcplab.linux.connection_monitor import Sockets
        from mptcplab.remote.answers import SOCKETS
        from mptcplab.remote.fleet import checked

        sample = checked(self._line, SOCKETS, self._line.ask("sample").get("sample"), "sample")
        return Sockets(sample["at_ns"], sample["tcp"], sample["mptcp"])

    def counters(self) -> dict[str, int]:
        from mptcplab.remote.answers import COUNTERS
        from mptcplab.remote.fleet import checked

        answer = checked(self._line, COUNTERS, self._line.ask("counters"), "counters")
        counters: dict[str, int] = answer["counters"]
        return counters
