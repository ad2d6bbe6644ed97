"""Carrying out a scenario's timeline at its times, and writing down when it really happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from mptcplab.loop import Loop
from mptcplab.scenario.model import Action

Perform = Callable[[Action], None]
"""Does what an action says; whatever it raises is recorded as the action's failure."""

Record = Callable[[Action, int, str], None]
"""Told of an action, the loop time (ns) at which it was done, and what went wrong, if anything."""


class Timeline:
    """Actions waiting for their time on a loop.

    Actions of one instant are done in the order in which the scenario lists them.  ``late_max_ns``
    is by how much the latest one missed its time.
    """

    def __init__(
        self, actions: Sequence[Action], loop: Loop, perform: Perform, record: Record
    ) -> None:
        self._actions = sorted(actions, key=lambda action: action.at_ns)
        self._loop = loop
        self._perform = perform
        self._record = record
        self._origin_ns = 0
        self.late_max_ns = 0
        self.failures: list[str] = []
        """What could not be done, and why."""
        self.done = 0

    @property
    def over(self) -> bool:
        """Whether every action has been done."""
        return self.done == len(self._actions)

    def start(self, origin_ns: int) -> None:
        """Set a timer for each action; scenario time 0 is loop time ``origin_ns``."""
        self._origin_ns = origin_ns
        for action in self._actions:
            self._loop.call_at(origin_ns + action.at_ns, partial(self._expire, action))

    def _expire(self, action: Action) -> None:
        started_ns = self._loop.now_ns
        self.late_max_ns = max(self.late_max_ns, started_ns - self._origin_ns - action.at_ns)
        problem = ""
        try:
            self._perform(action)
        except (OSError, ValueError, RuntimeError) as error:
            problem = str(error) or type(error).__name__
            self.failures.append(f"{describe(action)} at {action.at_ns / 1e9:g} s: {problem}")
        self.done += 1
        self._record(action, started_ns, problem)


def describe(action: Action) -> str:
    """Return an action as text: ``link lan1 down``, ``link wan2 rate_bps=300000000``."""
    text = f"{action.target_kind} {action.target} {action.verb}"
    if action.changes:
        text += " " + " ".join(f"{key}={value}" for key, value in action.changes)
        if action.direction != "both":
            text += f" ({action.direction})"
    return text
