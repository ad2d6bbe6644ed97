"""Which driver carries a link: what the link asks, over the whole run, decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mptcplab.linux.drivers.kernel import unsupported
from mptcplab.linux.supervisor import MachineCannotError
from mptcplab.network.topology import Channel, Link
from mptcplab.scenario.model import Action


def demands(link: Link, timeline: Sequence[Action]) -> list[Channel]:
    """Return all that either direction of a link is, or becomes in the timeline."""
    now = {"forward": link.forward, "backward": link.backward}
    found = list(now.values())
    for action in sorted(timeline, key=lambda action: action.at_ns):
        if action.verb == "set" and action.target_kind == "link" and action.target == link.name:
            for direction in now:
                if action.direction in ("both", direction):
                    now[direction] = replace(now[direction], **dict(action.changes))  # type: ignore[arg-type]
                    found.append(now[direction])
    return found


def choose_driver(link: Link, timeline: Sequence[Action]) -> str:
    """Return "kernel", "netem" or "tap"; MachineCannotError where none can do it here."""
    channels = demands(link, timeline)
    problems = [text for c in channels if (text := unsupported(c, netem=False))]
    if not problems and link.driver in ("auto", "kernel"):
        return "kernel"
    raise MachineCannotError(f"link {link.name}: {problems[0] if problems else link.driver}")
