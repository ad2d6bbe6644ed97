"""The last sample of each connection: after its last byte, before its sockets close.

What the kernel counts of a socket is gone with the socket, and samples at an interval miss what
came after the last of them.  So the ends of a connection keep their sockets when all has arrived
and was checked; a sample is taken once every subflow has had acknowledged what it sent (a slow one
may still repeat what another has delivered), and only then they may close.  A subflow whose link
is down is not waited for, nor any for longer than two seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from mptcplab.linux.measure.sampler import hosts_of
from mptcplab.linux.traffic.flow import Connection
from mptcplab.loop import Loop

_FIRST_LOOK_NS: Final = 10_000_000
_PATIENCE_NS: Final = 2_000_000_000


class Sockets(Protocol):
    """One host's sockets, as they were last sampled."""

    host: str

    def outstanding(self, connection: Connection, since_ns: int, /) -> set[str | None] | None:
        """Return the links of its subflows that held something unacknowledged; None: not known."""


class Holding(Protocol):
    """A flow's traffic, as far as it holds connections."""

    def held(self) -> list[Connection]:
        """Return the connections that are done and hold their sockets."""

    def release(self, connection: Connection, /) -> None:
        """Let one go."""


class Holders(Protocol):
    """The traffic of all flows."""

    @property
    def traffic(self) -> Sequence[Holding]:
        """Each flow's."""


class LastSamples:
    """Lets held connections go when they have been sampled."""

    def __init__(
        self,
        loop: Loop,
        flows: Holders,
        sockets: Sequence[Sockets],
        sample: Callable[[], int],
        is_up: Callable[[str], bool],
    ) -> None:
        """``sample`` takes one of all ``sockets``, writes it down and returns its time (ns)."""
        self._loop = loop
        self._flows = flows
        self._sockets = {each.host: each for each in sockets}
        self._sample = sample
        self._is_up = is_up
        self._since: dict[int, tuple[int, int]] = {}  # by port: of first sample, on the loop
        self._waiting = False

    def look(self) -> None:
        """Look after the connections that are held by now."""
        if not self._waiting:
            self._look(_FIRST_LOOK_NS)

    def _look(self, again_ns: int) -> None:
        self._waiting = False
        if not self._held():
            return
        time_ns, now_ns = self._sample(), self._loop.now_ns
        for traffic, connection in self._held():
            since_ns, begun_ns = self._since.setdefault(connection.port, (time_ns, now_ns))
            if self._is_settled(connection, since_ns) or now_ns - begun_ns > _PATIENCE_NS:
                traffic.release(connection)
        if self._held():
            self._waiting = True
            self._loop.call_at(now_ns + again_ns, partial(self._look, 2 * again_ns))

    def _held(self) -> list[tuple[Holding, Connection]]:
        return [
            (traffic, connection)
            for traffic in self._flows.traffic
            for connection in traffic.held()
        ]

    def _is_settled(self, connection: Connection, since_ns: int) -> bool:
        for host in hosts_of([connection]):
            links = self._sockets[host].outstanding(connection, since_ns)
            if links is None or any(link is None or self._is_up(link) for link in links):
                return False
        return True
