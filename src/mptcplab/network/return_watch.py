"""How long a link takes to carry traffic again after it has come up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mptcplab.loop import Loop

_LOOK_EVERY_NS: Final = 20_000_000
_CARRIES: Final = 0.1  # of its rate, over one look, or 1 Mb/s where it has none
_UNLIMITED_BPS: Final = 10_000_000


class ReturnWatch:
    """Looks at a link that has come up, closely, until it carries data or goes down again."""

    def __init__(
        self,
        loop: Loop,
        sent_bytes: Callable[[str], int],
        on_return: Callable[[str, int, int], None],
    ) -> None:
        """``on_return`` gets the link, when it came up and when it was seen to carry data."""
        self._loop = loop
        self._sent_bytes = sent_bytes
        self._on_return = on_return
        self._watched: dict[str, tuple[int, int, int, int]] = {}  # up at, rate, looked at, bytes

    def came_up(self, link: str, rate_bps: int | None) -> None:
        """Begin to look."""
        now_ns = self._loop.now_ns
        idle = not self._watched
        rate = _UNLIMITED_BPS if rate_bps is None else rate_bps
        self._watched[link] = (now_ns, rate, now_ns, self._sent_bytes(link))
        if idle:
            self._loop.call_at(now_ns + _LOOK_EVERY_NS, self._look)

    def went_down(self, link: str) -> None:
        """Look no more."""
        self._watched.pop(link, None)

    @property
    def waiting(self) -> dict[str, int]:
        """The links that came up and have carried nothing yet, with the loop time they came up."""
        return {link: up_ns for link, (up_ns, _, _, _) in self._watched.items()}

    def _look(self) -> None:
        now_ns = self._loop.now_ns
        for link, (up_ns, rate_bps, looked_ns, before) in list(self._watched.items()):
            sent = self._sent_bytes(link)
            passed_ns: int = now_ns - looked_ns
            if passed_ns > 0 and (sent - before) * 8e9 / passed_ns >= rate_bps * _CARRIES:
                del self._watched[link]
                self._on_return(link, up_ns, now_ns)
            else:
                self._watched[link] = (up_ns, rate_bps, now_ns, sent)
        if self._watched:
            self._loop.call_at(now_ns + _LOOK_EVERY_NS, self._look)
