"""What a sender waits for, moment by moment: one reason at a time, and how long each has held.

The connection says so whenever it has nothing more to send; until something happens to it, the
reason stays the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

HANDSHAKE: Final = 0
APPLICATION: Final = 1
"""Everything written was sent, and there is room for more."""
SEND_BUFFER: Final = 2
"""Everything written was sent, and the application waits for room."""
RECEIVE_WINDOW: Final = 3
HEAD_OF_LINE_SLOW: Final = 4
"""Window or send buffer are full, for the greater part of what waits behind missing bytes."""
HEAD_OF_LINE_LOST: Final = 5
"""The same, and the subflow that carries them repairs a loss."""
SLOW_START: Final = 6
"""The congestion window of every usable subflow is full; one at least is in slow start."""
RECOVERY: Final = 7
"""The same, and one at least is in fast recovery."""
TIMEOUT: Final = 8
"""The same, and one at least is in recovery from a timeout."""
AVOIDANCE: Final = 9
"""The same, and all are in congestion avoidance."""
SCHEDULER: Final = 10
"""A subflow has room, and the scheduler does not use it."""
BACKUP: Final = 11
"""Only backups have room."""
NO_SUBFLOW: Final = 12
TAIL: Final = 13
"""The application writes no more: everything was sent, and the last bytes are on their way."""
UNKNOWN: Final = 14
"""Nobody can tell: a kernel that does not say enough of itself."""
DATA_ACK: Final = 15
"""As `SEND_BUFFER`, but the subflows have nothing on the way, and DATA_ACKs are missing for what
they delivered; of kernels."""
WINDOW_DATA_ACK: Final = 16
"""The same, where it is the connection's window that is full."""
PENALISED: Final = 17
"""As `AVOIDANCE` and `SLOW_START`, and the scheduler has just halved the window of one at least,
for holding the others up."""
OVER: Final = 18
"""Everything was sent and acknowledged, the end included: this time does not count."""

NAMES: Final = (
    "handshake",
    "application",
    "send-buffer",
    "receive-window",
    "head-of-line",
    "head-of-line-loss",
    "slow-start",
    "recovery",
    "timeout",
    "avoidance",
    "scheduler",
    "backup",
    "no-subflow",
    "tail",
    "unknown",
    "data-ack",
    "window-data-ack",
    "penalised",
)
"""Of the reasons that count, as the table ``limits`` has them."""

NOBODY: Final = -1


class SendLimits:
    """How long each reason has held; nanoseconds since the connection began."""

    __slots__ = ("_reason", "_since_ns", "_subflow", "_totals_ns")

    def __init__(self) -> None:
        self._reason: i64 = OVER
        self._subflow: i64 = NOBODY
        self._since_ns: i64 = 0
        self._totals_ns: dict[tuple[int, int], int] = {}

    def note(self, reason: i64, now_ns: i64, subflow: i64 = NOBODY) -> None:
        """It waits for this from now on; ``subflow`` is who carries the bytes that are missing."""
        if reason != self._reason or subflow != self._subflow:
            self._count(now_ns)
            self._reason = reason
            self._subflow = subflow

    def totals_ns(self, now_ns: i64) -> dict[tuple[int, int], int]:
        """Return how long each reason has held until now, by reason and subflow or ``NOBODY``."""
        self._count(now_ns)
        return self._totals_ns

    def _count(self, now_ns: i64) -> None:
        if self._reason != OVER and now_ns > self._since_ns:
            key = (self._reason, self._subflow)
            totals = self._totals_ns
            totals[key] = totals.get(key, 0) + now_ns - self._since_ns
        self._since_ns = now_ns
