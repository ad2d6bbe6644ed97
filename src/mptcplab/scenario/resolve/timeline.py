"""From parsed rows to actions, and the states of links and flows that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from mptcplab.network.impairments import JitterDistribution, with_implied
from mptcplab.network.topology import Channel, InterfaceEnd, Link, Topology
from mptcplab.scenario.errors import Path, Problems, nearest
from mptcplab.scenario.model import Action, Changes, Flow
from mptcplab.scenario.resolve.channels import burst_loss
from mptcplab.scenario.resolve.repeating import Occurrences, restored
from mptcplab.units import format_duration, format_rate

Values = dict[str, Any]
_PRIORITY = "set_priority"
_ENDPOINT_VERBS = ("add_address", "remove_address")
_VERBS = ("up", "down", "change", "start", "stop", "enable", "disable", _PRIORITY, *_ENDPOINT_VERBS)
Endpoints = Mapping[str, Collection[str]]
"""By host, the names of its endpoints in the file."""
_CHANGES = {
    "rate": "rate_bps",
    "trace": "trace",
    "delay": "delay_ns",
    "jitter": "jitter_ns",
    "jitter_distribution": "jitter_distribution",
    "jitter_reorders": "jitter_reorders",
    "reorder": "reorder",
    "loss": "loss",
    "burst_loss": "burst_loss",
    "duplicate": "duplicate",
    "corrupt": "corrupt",
}
_RESOLVED: dict[str, Callable[[Any], Any]] = {
    "jitter_distribution": JitterDistribution,
    "burst_loss": burst_loss,
}
"""How values that are more than numbers become those of a channel."""


def build_timeline(
    rows: list[Values],
    topology: Topology,
    flows: tuple[Flow, ...],
    endpoints: Endpoints,
    duration_ns: int,
    problems: Problems,
) -> tuple[tuple[Action, ...], tuple[Flow, ...]]:
    """Return the actions in order of time, and the flows with the timeline's starts and stops."""
    actions: list[tuple[Action, Path]] = []
    repeating = Occurrences(duration_ns, problems)
    for index, row in enumerate(rows):
        path = ("timeline", str(index))
        if row["at"] is None:
            continue
        if row["at"] >= duration_ns:
            problems.add(
                (*path, "at"),
                f"{format_duration(row['at'])} is not before the end",
                f"less than the duration of {format_duration(duration_ns)}",
            )
        once = _row(row, path, topology, flows, endpoints, problems)
        actions += repeating.of(row, path, once)
    actions.sort(key=lambda pair: pair[0].at_ns)
    actions = restored(actions, topology, own_label)
    _check_conflicts(actions, problems)
    _check_changes(actions, topology, problems)
    _check_endpoints(actions, problems)
    settled = tuple(_settled(flow, actions, problems) for flow in flows)
    timeline = tuple(action for action, _ in actions)
    _check_first_links(settled, topology, timeline, problems)
    return timeline, settled


def _row(
    row: Values,
    path: Path,
    topology: Topology,
    flows: tuple[Flow, ...],
    endpoints: Endpoints,
    problems: Problems,
) -> list[tuple[Action, Path]]:
    changes = _changes(row, path, problems)
    priority: Changes = (("backup", row["backup"]),)
    if row[_PRIORITY] and row["backup"] is None:
        problems.add((*path, _PRIORITY), "does not say which", "backup = true or false too")
    if row["backup"] is not None and not row[_PRIORITY]:
        problems.add((*path, "backup"), "is of no set_priority", 'set_priority = "LINK" too')
    verbs = [verb for verb in _VERBS if row[verb]]
    actions = []
    for verb in verbs:
        for target in row[verb]:
            here = (*path, verb)
            if verb in (_PRIORITY, *_ENDPOINT_VERBS):
                for end in _ends(verb, target, here, topology, endpoints, problems):
                    changed = priority if verb == _PRIORITY else ()
                    label = row["label"] or own_label(verb, end, changed)
                    action = Action(row["at"], verb, end, "endpoint", changed, label=label)
                    actions.append((action, here))
                continue
            kind = _target_kind(verb, target, here, topology, flows, problems)
            if kind:
                changed = changes if verb == "change" else ()
                action = Action(
                    row["at"],
                    "set" if verb == "change" else verb,
                    target,
                    kind,
                    changed,
                    row["direction"] if verb == "change" else "both",
                    row["label"] or own_label(verb, target, changed),
                )
                actions.append((action, here))
    return actions


def _ends(
    verb: str,
    target: str,
    path: Path,
    topology: Topology,
    endpoints: Endpoints,
    problems: Problems,
) -> list[str]:
    """Return the "HOST:NAME" that a target stands for; none, and noted, where there is none.

    A priority is of the interfaces of hosts, which a link stands for as well.
    """
    host, colon, name = target.partition(":")
    if verb == _PRIORITY and not colon and topology.has_link(target):
        link = topology.link(target)
        ends = [
            str(end)
            for end in (link.a, link.b)
            if isinstance(end, InterfaceEnd) and topology.has_host(end.host)
        ]
        if not ends:
            problems.add(path, f"no host is at either end of {target}", "a link of a host")
        return ends
    if topology.has_host(host) and name in endpoints[host] and verb != _PRIORITY:
        return [target]
    interfaces = [
        f"{one.name}:{interface.name}" for one in topology.hosts for interface in one.interfaces
    ]
    if verb == _PRIORITY:
        if target in interfaces:
            return [target]
        known = [*(link.name for link in topology.links), *interfaces]
        what, expected = "link or interface", f"one of {', '.join(known)}"
    else:
        known = [f"{one}:{each}" for one, names in endpoints.items() for each in names]
        what, expected = "endpoint", f"one of {', '.join(known)}"
        if not known:
            expected = "[hosts.NAME.endpoints] with it"
    problems.add(path, f'there is no {what} "{target}"', expected, nearest(target, known))
    return []


def _check_endpoints(actions: list[tuple[Action, Path]], problems: Problems) -> None:
    """Note endpoints that are added where they are there, or removed where they are gone."""
    last: dict[str, str] = {}
    for action, path in actions:
        if action.verb not in _ENDPOINT_VERBS:
            continue
        if last.get(action.target) == action.verb:
            state = "there" if action.verb == "add_address" else "gone"
            problems.add(
                path,
                f"{action.target} is {state} already at {format_duration(action.at_ns)}",
                "add_address and remove_address by turns",
            )
        last[action.target] = action.verb


def _changes(row: Values, path: Path, problems: Problems) -> Changes:
    changes: list[tuple[str, Any]] = [
        (field, _RESOLVED.get(key, _as_it_is)(row[key]))
        for key, field in _CHANGES.items()
        if row[key] is not None
    ]
    if row["rtt"] is not None:
        if row["direction"] != "both":
            problems.add(
                (*path, "rtt"),
                "is given together with a direction",
                "delay, which is one way, in place of rtt",
            )
        changes.append(("delay_ns", row["rtt"] // 2))
    if row["change"] and not changes:
        wanted = "rate, delay, rtt, jitter, loss or another value of a link"
        problems.add((*path, "change"), "changes nothing", wanted)
    if changes and not row["change"]:
        problems.add(path, "sets values of no link", 'change = "LINK" too')
    return tuple(changes)


def _as_it_is(value: Any) -> Any:
    return value


def _target_kind(
    verb: str,
    target: str,
    path: Path,
    topology: Topology,
    flows: tuple[Flow, ...],
    problems: Problems,
) -> str:
    """Return "link", "nic", "flow" or "middlebox"; empty, and noted, where there is no such."""
    if verb in ("start", "stop"):
        kind, known = "flow", [flow.name for flow in flows]
    elif verb in ("enable", "disable"):
        kind = "middlebox"
        known = list(dict.fromkeys(box.target for link in topology.links for box in link.boxes))
    elif ":" in target and verb != "change":
        kind = "nic"
        known = [f"{host.name}:{nic.name}" for host in topology.hosts for nic in host.nics]
    else:
        kind, known = "link", [link.name for link in topology.links]
    if target in known:
        return kind
    hint = nearest(target, known)
    host, _, interface = target.partition(":")
    for link in topology.links:
        if kind == "nic" and InterfaceEnd(host, interface) in (link.a, link.b):
            hint = f"its link is {link.name}"
    problems.add(
        path,
        f'there is no {kind} "{target}" among those built',
        f"one of {', '.join(known)}" if known else f"a {kind}",
        hint,
    )
    return ""


_DONE = {"start": "starts", "stop": "stops", "enable": "enabled", "disable": "disabled"}
"""What a target does, or has done to it, by verb."""


def own_label(verb: str, target: str, changes: Changes) -> str:
    """Return the label of an action that the file gives none."""
    if verb in _ENDPOINT_VERBS:
        return f"{target} {'added' if verb == 'add_address' else 'removed'}"
    if not changes:
        return f"{target} {_DONE.get(verb, verb)}"
    return f"{target}: {changes_text(changes)}"


def changes_text(changes: Changes) -> str:
    """Return what an action sets, as people write it: "5 Mb/s, delay 30 ms"."""
    shown: dict[str, Callable[[Any], str]] = {
        "rate_bps": lambda value: format_rate(value),
        "delay_ns": lambda value: f"delay {format_duration(value)}",
        "jitter_ns": lambda value: f"jitter {format_duration(value)}",
        "loss": lambda value: f"loss {value * 100:.3g} %",
        "trace": lambda value: f"as in {value.file}",
        "burst_loss": lambda value: f"bursts of loss, {value.mean_loss * 100:.3g} %",
        "jitter_distribution": lambda value: f"{value.value} jitter",
        "jitter_reorders": lambda value: f"jitter {'reorders' if value else 'keeps the order'}",
        "reorder": lambda value: f"reordering {value * 100:.3g} %",
        "duplicate": lambda value: f"duplicates {value * 100:.3g} %",
        "corrupt": lambda value: f"corruption {value * 100:.3g} %",
        "backup": lambda value: "backup" if value else "regular",
    }
    return ", ".join(shown[key](value) for key, value in changes)


def _check_conflicts(actions: list[tuple[Action, Path]], problems: Problems) -> None:
    seen: dict[tuple[int, str, str], str] = {}
    for action, path in actions:
        if action.verb not in ("up", "down", "enable", "disable"):
            continue
        key = (action.at_ns, action.target_kind, action.target)
        other = seen.setdefault(key, action.verb)
        if other != action.verb:
            what = "is enabled and disabled" if action.target_kind == "middlebox" else None
            problems.add(
                path,
                f"{action.target} {what or 'goes up and down'} at {format_duration(action.at_ns)}",
                "one of the two, or another time",
            )


def _check_changes(
    actions: list[tuple[Action, Path]], topology: Topology, problems: Problems
) -> None:
    """Note changes that a link cannot take: a rate where it had none, more jitter than delay."""
    state: dict[tuple[str, str], Channel] = {
        (link.name, direction): channel
        for link in topology.links
        for direction, channel in (("forward", link.forward), ("backward", link.backward))
    }
    for action, path in actions:
        for (link, direction), channel in list(state.items()):
            if action.verb != "set" or link != action.target:
                continue
            if action.direction not in ("both", direction):
                continue
            changes = with_implied(action.changes)
            if "rate_bps" in changes and channel.rate_bps is None:
                problems.add(
                    (*path[:-1], "trace" if changes["trace"] else "rate"),
                    f"{link} has no rate to change, and so no queue",
                    f"a rate in [links.{link}] too",
                )
            after = replace(channel, **changes)
            if after.jitter_ns > after.delay_ns:
                problems.add(
                    path,
                    f"leaves {link} with {format_duration(after.jitter_ns)} of jitter around a "
                    f"delay of {format_duration(after.delay_ns)}",
                    "a jitter no larger than the delay",
                )
            elif after.reorder and not after.delay_ns:
                problems.add(
                    path, f"leaves {link} with no delay to leave out by `reorder`", "a delay too"
                )
            elif not after.jitter_ns and _needs_jitter(action):
                problems.add(path, f"leaves {link} with no jitter to be changed", "a jitter too")
            state[link, direction] = after


def _needs_jitter(action: Action) -> bool:
    changes = dict(action.changes)
    distribution = changes.get("jitter_distribution", JitterDistribution.UNIFORM)
    return distribution is not JitterDistribution.UNIFORM or bool(changes.get("jitter_reorders"))


def _settled(flow: Flow, actions: list[tuple[Action, Path]], problems: Problems) -> Flow:
    """Return the flow with the start and stop that the timeline gives it."""
    times: dict[str, int] = {}
    for action, path in actions:
        if action.target_kind != "flow" or action.target != flow.name:
            continue
        own = flow.start_ns if action.verb == "start" else flow.stop_ns
        if own or action.verb in times:
            problems.add(
                path,
                f"the {action.verb} of {flow.name} is given twice",
                f"one {action.verb} for each flow, in [flows.{flow.name}] or in the timeline",
            )
        times[action.verb] = action.at_ns
    settled = replace(
        flow,
        start_ns=times.get("start", flow.start_ns),
        stop_ns=times.get("stop", flow.stop_ns),
    )
    if settled.stop_ns is not None and settled.stop_ns <= settled.start_ns and times:
        problems.add(
            ("flows", flow.name),
            f"stops at {format_duration(settled.stop_ns)}, before it starts "
            f"at {format_duration(settled.start_ns)}",
            "a stop after the start",
        )
    return settled


class LinkStates:
    """Which links are up when: a link is down while it was taken down itself, or a NIC of its."""

    def __init__(self, topology: Topology, timeline: Iterable[Action]) -> None:
        """Take the network and what the timeline does to it, in order of time."""
        self._topology = topology
        self._actions: dict[str, list[Action]] = {}
        for action in timeline:
            if action.verb in ("up", "down"):
                self._actions.setdefault(action.target, []).append(action)

    def is_up(self, link: Link, at_ns: int) -> bool:
        """Say whether a link is up after the actions at ``at_ns``."""
        return self._state(link.name, link.up, at_ns) and all(
            self.interface_is_up(end, at_ns)
            for end in (link.a, link.b)
            if isinstance(end, InterfaceEnd)
        )

    def interface_is_up(self, end: InterfaceEnd, at_ns: int) -> bool:
        """Say whether the NIC of an interface is up after the actions at ``at_ns``."""
        return self._state(f"{end.host}:{self._topology.interface_at(end).nic}", True, at_ns)

    def _state(self, target: str, state: bool, at_ns: int) -> bool:
        for action in self._actions.get(target, ()):
            if action.at_ns > at_ns:
                break
            state = action.verb == "up"
        return state

    def up(self, at_ns: int) -> frozenset[str]:
        """Return the names of the links that are up after the actions at ``at_ns``."""
        return frozenset(link.name for link in self._topology.links if self.is_up(link, at_ns))


def _check_first_links(
    flows: tuple[Flow, ...], topology: Topology, timeline: tuple[Action, ...], problems: Problems
) -> None:
    """Note a flow whose first link is down when it starts: it could open no connection."""
    states = LinkStates(topology, timeline)
    for flow in flows:
        if not flow.links:
            continue
        first = flow.links[0]
        if not states.is_up(topology.link(first), flow.start_ns):
            up = states.up(flow.start_ns)
            ready = [link for link in flow.links if link in up]
            problems.add(
                ("flows", flow.name, "links"),
                f"{first}, which carries the initial subflow, is down when the flow starts at "
                f"{format_duration(flow.start_ns)}",
                f"a link that is up then ({', '.join(ready) or 'none is'}) as the first of links",
            )
