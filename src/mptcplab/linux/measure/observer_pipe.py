"""An observer on the other side of a pipe: what a run says in its own process is heard in ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mptcplab.results.observer import Observer

Message = tuple[str, tuple[Any, ...]]


class Relay(Observer):
    """Sends each call on as a message."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send

    def phase(self, name: str) -> None:
        """Send it on."""
        self._send(("phase", (name,)))

    def tick(
        self,
        time_ns: int,
        flows_bps: Mapping[str, float],
        links_bps: Mapping[str, tuple[float, float]],
        rtt_ns: Mapping[str, int | None],
    ) -> None:
        """Send it on."""
        self._send(("tick", (time_ns, dict(flows_bps), dict(links_bps), dict(rtt_ns))))

    def event(self, time_ns: int, text: str) -> None:
        """Send it on."""
        self._send(("event", (time_ns, text)))


def tell(observer: Observer, message: Message) -> None:
    """Make the call that a relay's message stands for."""
    name, arguments = message
    getattr(observer, name)(*arguments)
