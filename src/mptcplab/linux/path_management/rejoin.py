"""Making sure that subflows come back with their link.

A REMOVE_ADDR is sent once, on whichever subflow the kernel thinks is alive
(mptcp_pm_addr_send_ack), and never repeated.  Where two links fail at the same time, that of
the one may be sent on the other; the peer then keeps its end of the dead subflow, takes the address
that is announced when the link returns for one it already uses, and joins no more.  So some time
after a link's return this looks whether the subflows are there, at both ends; where not, the
endpoint is withdrawn and announced once more, on links that are alive by now.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from mptcplab.loop import Loop

_LOOK_AFTER_NS: Final = 300_000_000
_ROUND_TRIPS: Final = 4  # ADD_ADDR and the three segments of a join
_APART_NS: Final = 100_000_000  # between REMOVE_ADDR and ADD_ADDR, which would overtake it
_ATTEMPTS: Final = 3


class Rejoining:
    """Looks after the subflows of links that have come up."""

    def __init__(
        self,
        loop: Loop,
        is_missing: Callable[[str], bool],
        withdraw: Callable[[str], bool],
        announce: Callable[[], None],
    ) -> None:
        """``is_missing`` says whether a link lacks a subflow, ``withdraw`` deletes its endpoints
        (False where there is none to delete), ``announce`` adds those that are not there.
        """
        self._loop = loop
        self._is_missing = is_missing
        self._withdraw = withdraw
        self._announce = announce
        self._watched: dict[str, int] = {}  # the number of a link's return that is being checked

    def came_up(self, link: str, rtt_ns: int) -> None:
        """Look after a link whose paths have this round trip."""
        turn = self._watched[link] = self._watched.get(link, 0) + 1
        self._look_later(link, turn, _LOOK_AFTER_NS + _ROUND_TRIPS * rtt_ns, _ATTEMPTS)

    def went_down(self, link: str) -> None:
        """Leave it alone."""
        self._watched[link] = self._watched.get(link, 0) + 1

    def _look_later(self, link: str, turn: int, after_ns: int, attempts: int) -> None:
        look = partial(self._look, link, turn, after_ns, attempts)
        self._loop.call_at(self._loop.now_ns + after_ns, look)

    def _look(self, link: str, turn: int, after_ns: int, attempts: int) -> None:
        if self._watched[link] != turn or not attempts or not self._is_missing(link):
            return
        if self._withdraw(link):
            again = partial(self._announce_again, link, turn, after_ns, attempts - 1)
            self._loop.call_at(self._loop.now_ns + _APART_NS, again)

    def _announce_again(self, link: str, turn: int, after_ns: int, attempts: int) -> None:
        self._announce()
        self._look_later(link, turn, after_ns, attempts)
