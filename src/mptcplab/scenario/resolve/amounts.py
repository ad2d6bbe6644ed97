"""How much a scenario may hold: what is beyond is refused at once, before work grows with it.

Everything else takes time in proportion to the file.
"""

from __future__ import annotations

from typing import Any, Final

from mptcplab.network.topology import Topology
from mptcplab.scenario.errors import Path, Problems

Values = dict[str, Any]

MAX_CONNECTIONS: Final = 60_000
"""Each has a port of its own, from 5001 on, and 65,535 is the last."""
MAX_PAIRS: Final = 50_000
"""Of addresses that links and switches join, over all flows: as many subflows there may be."""
_MOST: Final[dict[Path, int]] = {
    ("hosts",): 5_000,
    ("switches",): 5_000,
    ("routers",): 5_000,
    ("links",): 5_000,
    ("flows",): 10_000,
    ("timeline",): 10_000,
    ("expect",): 1_000,
    ("report", "measured"): 1_000,
    ("report", "findings"): 1_000,
    ("sweep", "points"): 1_000,
}
_MOST_STATES: Final = 500_000
"""Links and flows times actions of the timeline: the states that these lead through."""
_MOST_BUILT: Final = 50_000
"""Points of a sweep times hosts, links, flows and actions: each point is a scenario of its own."""


def check_amounts(tree: Values, problems: Problems) -> None:
    """Raise ScenarioError for more than a testbed could build, by a file's raw tables."""
    counts = {path: _length(tree, path) for path in _MOST}
    for path, most in _MOST.items():
        if counts[path] > most:
            problems.add(path, f"{counts[path]} of them", f"{most} at most")
    problems.raise_any()
    changing = counts["links",] + counts["flows",]
    if counts["timeline",] * changing > _MOST_STATES:
        problems.add(
            ("timeline",),
            f"{counts['timeline',]} actions with {changing} links and flows",
            f"a product of {_MOST_STATES} at most",
        )
    parts = changing + counts["hosts",] + counts["timeline",]
    if counts["sweep", "points"] * parts > _MOST_BUILT:
        problems.add(
            ("sweep", "points"),
            f"{counts['sweep', 'points']} points with {parts} hosts, links, flows and actions each",
            f"a product of {_MOST_BUILT} at most",
        )
    problems.raise_any()


def _length(tree: Any, path: Path) -> int:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return len(tree) if isinstance(tree, dict | list) else 0


def check_connections(connections: int, problems: Problems) -> None:
    """Raise ScenarioError for more connections than there are ports."""
    if connections > MAX_CONNECTIONS:
        problems.add(
            ("flows",),
            f"{connections} connections in all",
            f"at most {MAX_CONNECTIONS}, which have a port each",
        )
    problems.raise_any()


def check_pairs(flows: Values, topology: Topology, problems: Problems) -> None:
    """Raise ScenarioError for more pairs of addresses than can be looked at one by one."""
    pairs = 0
    for name, values in flows.items():
        ends = values["from"], values["to"]
        if all(map(topology.has_host, ends)):
            pairs += topology.pairs_between(*ends)
        if pairs > MAX_PAIRS:
            problems.add(
                ("flows", name),
                f"with the flows before it, could join more than {MAX_PAIRS} pairs of addresses",
                "fewer flows, or fewer interfaces at their hosts",
            )
            problems.raise_any()
