"""What stateful boxes remember of connections, and for how long."""

from __future__ import annotations

from typing import Final

from mptcplab.middleboxes.packets import FlowKey
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.units import NANOSECONDS
from mptcplab.wire.segment import FIN, RST, Segment

_TRANSITORY_NS: Final = 240 * NANOSECONDS
"""How long a connection is remembered that is being opened or closed (RFC 5382 REQ-5)."""


class _State:
    """What is known of one connection."""

    __slots__ = ("answered", "finished_in", "finished_out", "last_ns", "reset")

    def __init__(self) -> None:
        self.last_ns = 0
        self.answered = False
        self.finished_out = False
        self.finished_in = False
        self.reset = False


class Connections:
    """The connections that pass a box, by their flow as seen from inside."""

    __slots__ = ("_plan", "_states")

    def __init__(self, plan: MiddleboxPlan) -> None:
        self._plan = plan
        self._states: dict[FlowKey, _State] = {}

    def knows(self, flow: FlowKey, now_ns: int) -> bool:
        """Say whether a connection is remembered; one that has been idle for too long is not."""
        state = self._states.get(flow)
        if state is None:
            return False
        if now_ns - state.last_ns <= self._timeout_ns(flow, state):
            return True
        del self._states[flow]
        return False

    def note(self, flow: FlowKey, segment: Segment, outbound: bool, now_ns: int) -> None:
        """Remember a segment of a connection."""
        state = self._states.get(flow)
        if state is None:
            state = self._states[flow] = _State()
        state.last_ns = now_ns
        flags = segment.flags
        if flags & RST:
            state.reset = True
        if outbound:
            state.finished_out = state.finished_out or bool(flags & FIN)
        else:
            state.answered = True
            state.finished_in = state.finished_in or bool(flags & FIN)

    def begin(self, flow: FlowKey) -> None:
        """Forget how a connection ended: another begins on its addresses and ports."""
        self._states.pop(flow, None)

    def clear(self) -> None:
        """Forget all of them."""
        self._states.clear()

    def _timeout_ns(self, flow: FlowKey, state: _State) -> int:
        if not flow[0]:
            return self._plan.udp_timeout_ns
        over = state.reset or (state.finished_in and state.finished_out)
        if over or not state.answered:
            return min(_TRANSITORY_NS, self._plan.timeout_ns)
        return self._plan.timeout_ns
