"""Actions that hold for a while (``for``) and that repeat (``every``), written out one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from mptcplab.network.impairments import with_implied
from mptcplab.network.topology import Channel, Topology
from mptcplab.scenario.errors import Path, Problems
from mptcplab.scenario.model import Action, Changes
from mptcplab.units import format_duration

Values = dict[str, Any]
Placed = tuple[Action, Path]

_MOST_ACTIONS: Final = 10_000
_OPPOSITES: Final = {
    "up": "down",
    "down": "up",
    "add_address": "remove_address",
    "remove_address": "add_address",
}
_RESTORE: Final = "restore"
"""The verb of what ends a change, until it is known what it restores."""


class Occurrences:
    """Writes out each row's actions, as often as they happen before the end of the run."""

    def __init__(self, duration_ns: int, problems: Problems) -> None:
        self._duration_ns = duration_ns
        self._problems = problems
        self._count = 0

    def of(self, row: Values, path: Path, once: list[Placed]) -> list[Placed]:
        """Return the actions of a row with what ends and repeats them."""
        lasts_ns, every_ns = row["for"], row["every"]
        if lasts_ns is None:
            if every_ns is not None:
                self._problems.add(
                    (*path, "every"), "is given without for", 'for = "0.5s" too, say'
                )
            return once
        for verb in ("start", "stop"):
            if row[verb]:
                self._problems.add(
                    (*path, verb), "is given together with for", "flows that start and stop once"
                )
                return once
        if every_ns is not None and every_ns <= lasts_ns:
            self._problems.add(
                (*path, "every"),
                f"{format_duration(every_ns)} is not longer than for, which is "
                f"{format_duration(lasts_ns)}",
                "a longer time",
            )
            return once
        step_ns = self._duration_ns if every_ns is None else every_ns
        starts = range(row["at"], self._duration_ns, step_ns)
        self._count += 2 * len(starts) * len(once)
        if self._count > _MOST_ACTIONS:
            self._problems.add(
                (*path, "every"),
                f"makes {self._count} actions of the timeline",
                f"{_MOST_ACTIONS} at most",
            )
            return once
        repeated = every_ns is not None
        return [
            (replace(each, at_ns=at_ns, repeated=repeated), here)
            for start_ns in starts
            for action, here in once
            for at_ns, each in ((start_ns, action), (start_ns + lasts_ns, _ending(action)))
            if at_ns < self._duration_ns
        ]


def _ending(action: Action) -> Action:
    """Return what ends an action; of a change, only that something does."""
    if action.verb == "set":
        return replace(action, verb=_RESTORE)
    if action.verb == "set_priority":
        return replace(action, changes=(("backup", not dict(action.changes)["backup"]),), label="")
    return replace(action, verb=_OPPOSITES[action.verb], label="")


def restored(
    actions: list[Placed], topology: Topology, own_label: Callable[[str, str, Changes], str]
) -> list[Placed]:
    """Return actions, in order of time, in which what ends a change sets the values of before."""
    state: dict[tuple[str, str], Channel] = {
        (link.name, direction): channel
        for link in topology.links
        for direction, channel in (("forward", link.forward), ("backward", link.backward))
    }
    before: dict[tuple[Path, str], dict[str, Changes]] = {}
    result: list[Placed] = []
    for action, path in actions:
        if action.verb == _RESTORE:
            steps = [
                replace(action, verb="set", changes=changes, direction=direction, label="")
                for direction, changes in before[path, action.target].items()
            ]
        else:
            steps = [action]
            if action.verb == "set":
                before[path, action.target] = _values(action, state)
        for step in steps:
            for direction in step.directions if step.verb == "set" else ():
                channel = state[step.target, direction]
                state[step.target, direction] = replace(channel, **with_implied(step.changes))
            label = step.label or own_label(step.verb, step.target, step.changes)
            result.append((replace(step, label=label), path))
    return result


def _values(action: Action, state: dict[tuple[str, str], Channel]) -> dict[str, Changes]:
    """Return, by direction, the present values of what an action changes."""
    values = {}
    for direction in action.directions:
        channel = state[action.target, direction]
        fields = {name: getattr(channel, name) for name in with_implied(action.changes)}
        for name, other in (("trace", "rate_bps"), ("burst_loss", "loss")):
            if name in fields:  # each implies the other
                del fields[other if fields[name] is not None else name]
        values[direction] = tuple(fields.items())
    if len(set(map(str, values.values()))) == 1 and len(values) == 2:
        return {"both": values["forward"]}
    return values
