"""Networks by rule: what ``[generate]`` stands for, as the tables that a file would have.

Each generator gives hosts, routers, links and flows under plain names; what the file says of them
besides is laid over it. The literature that they are from:

- dumbbell and parking lot: Floyd and Jacobson, "Random early detection gateways", 1993, and RFC
  5166 section 2.1;
- leaf-spine: two layers of a folded Clos network;
- fat-tree: Al-Fares, Loukissas and Vahdat, SIGCOMM 2008; with MPTCP, Raiciu et al., SIGCOMM 2011;
- torus: Wischik, Raiciu, Greenhalgh and Handley, NSDI 2011, figure 7.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from mptcplab.scenario.errors import Problems
from mptcplab.scenario.schema.keys import GENERATE
from mptcplab.scenario.schema.read import read_section
from mptcplab.scenario.schema.source_files import merged, normalised

Raw = dict[str, Any]

SIZES: Final[dict[str, dict[str, int]]] = {
    "dumbbell": {"hosts": 2},
    "leaf-spine": {"leaves": 4, "spines": 2, "hosts": 4},
    "fat-tree": {"k": 4},
    "torus": {"size": 5},
    "parking-lot": {"hops": 3},
}
"""The keys that say how large each kind of network is, with their defaults."""


@dataclass
class Plan:
    """What a generator has made so far."""

    access: Raw
    link: Raw
    ecmp: str
    hosts: Raw = field(default_factory=dict)
    routers: Raw = field(default_factory=dict)
    links: Raw = field(default_factory=dict)
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The ends of each flow, by its name."""

    def router(self, name: str) -> str:
        """Add a router and return its name."""
        self.routers[name] = {"ecmp": self.ecmp}
        return name

    def host(self, name: str, *routers: str) -> str:
        """Add a host with a link to each of some routers and return its name."""
        self.hosts[name] = {}
        for router in routers:
            self.links[f"{name}-{router}"] = {**deepcopy(self.access), "between": [name, router]}
        return name

    def join(self, name: str, one: str, other: str) -> None:
        """Add a link between two routers."""
        self.links[name] = {**deepcopy(self.link), "between": [one, other]}


def expanded(tree: Raw, problems: Problems, *, flows: bool = True) -> Raw:
    """Return a raw tree with what its ``generate`` stands for in its place.

    The tree's own tables are laid over the generated ones. Raises ScenarioError.
    """
    if "generate" not in tree:
        return tree
    raw = tree["generate"]
    if isinstance(raw, dict):
        raw = normalised(GENERATE, raw)
    values = read_section(GENERATE, raw, ("generate",), problems)
    problems.raise_any()
    kind = values["kind"]
    sizes = dict(SIZES[kind])
    for name in {name for each in SIZES.values() for name in each}:
        if values[name] is None:
            continue
        if name not in sizes:
            problems.add(
                ("generate", name),
                f"is not for {kind}",
                f"{' and '.join(sizes)}, which say how large it is",
            )
        sizes[name] = values[name]
    if kind == "fat-tree" and sizes["k"] % 2:
        problems.add(("generate", "k"), f"{sizes['k']} is odd", "an even number of ports")
    problems.raise_any()
    link = raw.get("link", {})
    plan = Plan(raw.get("access", link), link, values["ecmp"])
    GENERATORS[kind](plan, **sizes)
    made: Raw = {"hosts": plan.hosts, "routers": plan.routers, "links": plan.links}
    if flows:
        made["flows"] = _flows(plan, values["traffic"], tree.get("seed", 1), raw.get("flow", {}))
    own = {key: value for key, value in tree.items() if key != "generate"}
    for table in made:  # a list of names beside generated tables adds to them
        if isinstance(own.get(table), list) and all(isinstance(each, str) for each in own[table]):
            own[table] = {name: {} for name in own[table]}
    return merged(made, own)


def _flows(plan: Plan, traffic: str, seed: object, settings: Raw) -> Raw:
    if traffic == "none":
        return {}
    pairs = plan.pairs
    if traffic == "permutation":
        hosts = list(plan.hosts)
        pairs = {
            f"f{number}": pair
            for number, pair in enumerate(zip(hosts, permuted(hosts, seed), strict=True))
        }
    return {
        name: {**deepcopy(settings), "from": source, "to": destination}
        for name, (source, destination) in pairs.items()
    }


def permuted(hosts: list[str], seed: object) -> list[str]:
    """Return hosts in a random order in which none stands at its own place: one cycle of all."""
    order = list(range(len(hosts)))
    Random(f"permutation {seed}").shuffle(order)
    following = dict(zip(order, order[1:] + order[:1], strict=True))
    return [hosts[following[place]] for place in range(len(hosts))]


def _dumbbell(plan: Plan, hosts: int) -> None:
    left, right = plan.router("left"), plan.router("right")
    plan.join("bottleneck", left, right)
    for number in range(1, hosts + 1):
        pair = plan.host(f"a{number}", left), plan.host(f"b{number}", right)
        plan.pairs[f"f{number}"] = pair


def _leaf_spine(plan: Plan, leaves: int, spines: int, hosts: int) -> None:
    above = [plan.router(f"spine{number}") for number in range(1, spines + 1)]
    for number in range(1, leaves + 1):
        leaf = plan.router(f"leaf{number}")
        for spine in above:
            plan.join(f"{leaf}-{spine}", leaf, spine)
        for place in range(1, hosts + 1):
            plan.host(f"h{number}-{place}", leaf)
    _pair_across(plan)


def _fat_tree(plan: Plan, k: int) -> None:
    half = k // 2
    cores = [plan.router(f"c{number}") for number in range(half * half)]
    for pod in range(k):
        above = [plan.router(f"a{pod}-{place}") for place in range(half)]
        for place, router in enumerate(above):
            for core in cores[place * half : (place + 1) * half]:
                plan.join(f"{router}-{core}", router, core)
        for place in range(half):
            edge = plan.router(f"e{pod}-{place}")
            for router in above:
                plan.join(f"{edge}-{router}", edge, router)
            for number in range(half):
                plan.host(f"h{pod}-{place}-{number}", edge)
    _pair_across(plan)


def _pair_across(plan: Plan) -> None:
    """Let each host send to the one half of them further on."""
    hosts = list(plan.hosts)
    for place, host in enumerate(hosts):
        plan.pairs[f"f{place}"] = (host, hosts[(place + len(hosts) // 2) % len(hosts)])


def _torus(plan: Plan, size: int) -> None:
    """Each flow has a path over each of two neighbouring links, and each link carries two flows."""
    for number in range(1, size + 1):
        plan.join(f"l{number}", plan.router(f"i{number}"), plan.router(f"o{number}"))
    for number in range(1, size + 1):
        following = number % size + 1
        plan.pairs[f"f{number}"] = (
            plan.host(f"a{number}", f"i{number}", f"i{following}"),
            plan.host(f"b{number}", f"o{number}", f"o{following}"),
        )


def _parking_lot(plan: Plan, hops: int) -> None:
    """One flow over all links in a row, and over each of them another one."""
    routers = [plan.router(f"r{number}") for number in range(hops + 1)]
    plan.pairs["long"] = (plan.host("a0", routers[0]), plan.host("b0", routers[-1]))
    for number in range(1, hops + 1):
        one, other = routers[number - 1], routers[number]
        plan.join(f"l{number}", one, other)
        plan.pairs[f"f{number}"] = (plan.host(f"a{number}", one), plan.host(f"b{number}", other))


GENERATORS: Final[dict[str, Callable[..., None]]] = {
    "dumbbell": _dumbbell,
    "leaf-spine": _leaf_spine,
    "fat-tree": _fat_tree,
    "torus": _torus,
    "parking-lot": _parking_lot,
}
