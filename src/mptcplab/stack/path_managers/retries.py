"""When to open a subflow again that failed: bounded, and the same for every path manager.

A path is a pair of addresses. After each failure its next attempt waits twice as long, from
``first_delay_ns`` up to ``longest_delay_ns``; after ``attempts`` failures in a row it is given up
until its link comes up again or the peer announces its address again. A subflow that was
established, and then failed, starts the count anew.
"""

from __future__ import annotations

from mptcplab.stack.path_managers.base import RemoteAddress

FIRST_DELAY_NS = 1_000_000_000
"""MPTCP_SUBFLOW_RETRY_DELAY of the out-of-tree kernel, mptcp_fullmesh.c: 1 s."""
LONGEST_DELAY_NS = 60_000_000_000
DEFAULT_ATTEMPTS = 8
"""Of ours: with doubling from 1 s, the last attempt is about three minutes after the first."""

Path = tuple[bytes, RemoteAddress]


class Retries:
    """The failed paths of one connection and when each is due."""

    def __init__(
        self,
        attempts: int = DEFAULT_ATTEMPTS,
        first_delay_ns: int = FIRST_DELAY_NS,
        longest_delay_ns: int = LONGEST_DELAY_NS,
    ) -> None:
        """Take how often to try again in a row (0: never) and the delays."""
        self.attempts = attempts
        self.first_delay_ns = first_delay_ns
        self.longest_delay_ns = longest_delay_ns
        self._failures: dict[Path, int] = {}
        self._due_ns: dict[Path, int] = {}

    def note_failure(self, path: Path, now_ns: int) -> None:
        """Plan the next attempt, if one is left."""
        failures = self._failures.get(path, 0) + 1
        self._failures[path] = failures
        if failures <= self.attempts:
            delay_ns = min(self.first_delay_ns << (failures - 1), self.longest_delay_ns)
            self._due_ns[path] = now_ns + delay_ns

    def note_success(self, path: Path) -> None:
        """Forget the failures of a path whose subflow is established."""
        self._failures.pop(path, None)
        self._due_ns.pop(path, None)

    def forget_local(self, address: bytes) -> None:
        """Forget everything about paths from ``address``: its link changed state."""
        for path in [path for path in self._failures if path[0] == address]:
            self.note_success(path)

    def forget_remote(self, address_id: int) -> None:
        """Forget everything about paths to the peer's address ``address_id``."""
        for path in [path for path in self._failures if path[1].address_id == address_id]:
            self.note_success(path)

    def waiting(self, path: Path) -> bool:
        """Say whether the path failed and is not yet due, or was given up."""
        return path in self._failures

    def deadline_ns(self) -> int | None:
        """Return when the next attempt is due, or None."""
        return min(self._due_ns.values(), default=None)

    def take_due(self, now_ns: int) -> list[Path]:
        """Return the paths to try now, in the order in which they became due."""
        paths = [path for path, when_ns in self._due_ns.items() if when_ns <= now_ns]
        paths.sort(key=lambda path: self._due_ns[path])
        for path in paths:
            del self._due_ns[path]
        return paths
