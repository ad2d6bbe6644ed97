"""Whether a connection lived: from when on nothing of it moved, although data waited.

A testbed tells a :class:`Liveness` at each sample what both ends have counted.  It serves a run in
virtual and in real time alike, while it lasts (a drain that has no more to hope for ends) and when
it is judged: a connection that died is a reason why the run is not what was asked for, unless the
scenario itself had taken every one of its links down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mptcplab.units import NANOSECONDS, format_duration

_FIRST_TIMEOUT_NS = NANOSECONDS
"""The initial retransmission timeout (RFC 6298 section 2.1), below which Linux goes to 200 ms."""
_LONGEST_TIMEOUT_NS = 120 * NANOSECONDS
"""The longest retransmission timeout (Linux's TCP_RTO_MAX)."""
_CONGESTION_LOSS = 0.1
"""What full queues may take of a round trip's packets, beside the loss that a link is set to."""
_UNLUCKY = 0.001
"""Probability with which a live connection may be taken for a dead one."""


def patience_ns(round_trip_ns: int, loss: float = 0.0) -> int:
    """Return how long a live connection may show no progress (ns).

    ``round_trip_ns`` includes what its queues take when they are full.  ``loss`` is the probability
    that a packet or its ACK is lost, below 1.  Within that time so many retransmissions, each after
    a timeout twice as long as the one before (RFC 6298 section 5.5), have been sent that all of
    them are lost in one of a thousand cases, and one has gone through full queues and back.
    """
    tries = math.ceil(math.log(_UNLUCKY) / math.log(max(loss, _CONGESTION_LOSS)))
    timeout_ns = max(_FIRST_TIMEOUT_NS, 2 * round_trip_ns)
    waits_ns = 2 * round_trip_ns
    for _ in range(tries):
        if timeout_ns >= _LONGEST_TIMEOUT_NS:
            break
        waits_ns += timeout_ns
        timeout_ns *= 2
        tries -= 1
    return waits_ns + tries * _LONGEST_TIMEOUT_NS


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said of a connection at its end: why it makes a run invalid, or a note."""

    reason: str = ""
    note: str = ""


class Liveness:
    """Follows one connection from its start."""

    __slots__ = (
        "_alive_ns",
        "_cut_off",
        "_moved",
        "_obstacle",
        "_outage_ns",
        "_patience_ns",
        "_waiting_bytes",
        "came_up",
    )

    def __init__(self, patience_ns: int) -> None:
        """Take how long a live connection may show no progress: see :func:`patience_ns`."""
        self._patience_ns = patience_ns
        self.came_up = False
        """Whether both ends have found it established; to be set by who hears of it."""
        self._alive_ns = 0
        self._moved = -1
        self._waiting_bytes = 0
        self._cut_off = False
        self._outage_ns = 0
        self._obstacle = ""

    def note(
        self,
        time_ns: int,
        moved: int,
        waiting_bytes: int,
        *,
        reachable: bool = True,
        obstacle: str = "",
    ) -> None:
        """Take what is known at ``time_ns``, which never decreases.

        ``moved`` is a sum of counters that grow with any progress, as bytes that arrived on any
        subflow, were acknowledged and were read.  ``waiting_bytes`` were written and not yet read
        at the other end.  ``reachable`` is false while the scenario keeps all its paths down.
        ``obstacle`` is the last thing known of what holds it back.
        """
        if moved > self._moved or waiting_bytes <= 0:
            self._alive_ns, self._outage_ns, self._cut_off = time_ns, 0, not reachable
        elif not reachable:
            self._cut_off = True
        elif self._cut_off:  # a timeout may have grown as long as the outage was
            self._outage_ns = time_ns - self._alive_ns
            self._alive_ns, self._cut_off = time_ns, False
        self._moved = max(moved, self._moved)
        self._waiting_bytes = waiting_bytes
        self._obstacle = obstacle

    def dead_since_ns(self, now_ns: int) -> int | None:
        """Return from when on nothing moved; None for one that lives, or that is cut off."""
        if self._waiting_bytes <= 0 or self._cut_off:
            return None
        silent_ns = now_ns - self._alive_ns
        return self._alive_ns if silent_ns > self._patience_ns + self._outage_ns else None

    def stalled_since_ns(self, now_ns: int) -> int | None:
        """Return from when on nothing moved although data waited, whatever the reason; or None."""
        if self._cut_off and self._waiting_bytes > 0:
            return self._alive_ns
        return self.dead_since_ns(now_ns)

    def is_hopeless(self, now_ns: int) -> bool:
        """Say whether nothing more will come, where the scenario changes nothing any more."""
        stuck = self._cut_off and self._waiting_bytes > 0
        return not self.came_up or stuck or self.dead_since_ns(now_ns) is not None

    def judge(self, name: str, now_ns: int) -> Judgement:
        """Return what is to be said of the connection ``name``, a flow's and its number."""
        why = f": {self._obstacle}" if self._obstacle else ""
        if not self.came_up:
            return Judgement(reason=f"{name}: the connection never came up{why}")
        from_ns = self.stalled_since_ns(now_ns)
        if from_ns is None:
            return Judgement()
        text = (
            f"{name}: no progress from {format_duration(from_ns)} on, "
            f"with {self._waiting_bytes} bytes waiting"
        )
        if self.dead_since_ns(now_ns) is None:
            return Judgement(note=f"{text}: the scenario had taken its links down")
        return Judgement(reason=f"{text}{why}")


def why_never_up(reasons: Sequence[str], flow: str, connection: int) -> str | None:
    """Return what a run's reasons for being invalid say of a connection that never came up.

    None for one that did; "" where nothing is known of why.
    """
    for name in (f"flow {flow}, connection {connection}", f"flow {flow} connection {connection}"):
        text = f"{name}: the connection never came up"
        for reason in reasons:
            if reason.startswith(text):
                return reason.removeprefix(text).removeprefix(": ")
    return None
