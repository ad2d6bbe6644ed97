"""How far a host's clocks are from this machine's, by exchanges in which both are read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from mptcplab.remote.answers import CLOCK
from mptcplab.remote.fleet import checked
from mptcplab.remote.ssh import AgentLine

_EXCHANGES: Final = 8


@dataclass(frozen=True, slots=True)
class Clock:
    """A host's monotonic clock less this machine's, and of its clocks of the day (ns).

    ``error_ns`` is half the round trip of the fastest exchange, which neither can be off by more.
    """

    offset_ns: int
    unix_offset_ns: int
    error_ns: int

    def here(self, there_ns: int) -> int:
        """Return the time on this machine's monotonic clock of one on the host's."""
        return there_ns - self.offset_ns

    def there(self, here_ns: int) -> int:
        """Return the time on the host's monotonic clock of one on this machine's."""
        return here_ns + self.offset_ns

    def plain(self) -> dict[str, Any]:
        """Return what ``run.json`` says of it."""
        return {
            "offset_ns": self.offset_ns,
            "unix_offset_ns": self.unix_offset_ns,
            "error_ns": self.error_ns,
        }


def compare_clocks(line: AgentLine) -> Clock:
    """Compare a host's clocks with ours; the exchange with the shortest round trip counts."""
    best: tuple[int, int, int] | None = None
    for _ in range(_EXCHANGES):
        asked_ns, asked_unix_ns = time.monotonic_ns(), time.time_ns()
        answer = checked(line, CLOCK, line.ask("clock"), "clock")
        took_ns = time.monotonic_ns() - asked_ns
        if best is None or took_ns < best[0]:
            best = (
                took_ns,
                answer["monotonic_ns"] - asked_ns - took_ns // 2,
                answer["unix_ns"] - asked_unix_ns - took_ns // 2,
            )
    assert best is not None
    return Clock(best[1], best[2], best[0] // 2)
