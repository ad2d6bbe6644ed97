"""Whole scenarios drawn at random: networks, links, applications, timelines, tunables.

Most have no value that is wrong by itself, and most of these are rid of keys that exclude one
another, so that many come to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

Tree = dict[str, Any]

RATES = ["64kb/s", "1Mb/s", "5Mb/s", "20Mb/s", "100Mb/s"]
TIMES = ["0s", "100us", "1ms", "10ms", "50ms", "200ms"]
SHARES = ["0%", "0.1%", "5%", "50%", "100%"]
QUEUES = ["1 packet", "20 packets", "1 BDP", "0.1 BDP", "2kB", "100kB", "1ms", "100ms"]
SIZES = ["100", "1KB", "uniform 1KB to 10KB", "exponential 10KB", "pareto 1KB shape 1.2"]
WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [
        -1,
        0,
        1.5,
        "",
        "none such",
        "alice",
        "1s",
        "5%",
        "10Mb/s",
        True,
        [],
        {},
        ["x"],
        [[]],
        "9" * 30,
    ]
)
"""Values that are wrong in most places."""

TRACES = {
    "capacity.csv": "0,5Mb/s\n0.05,0\n0.1,1Mb/s\n0.2\n",
    "mahimahi.trace": "".join(f"{millisecond}\n" for millisecond in range(0, 100, 3)),
    "sizes.txt": "100\n2000\n30000\n",
    "times.txt": "0.01\n0.02\n0.2\n",
}
"""Files that scenarios may name."""


def some(values: dict[str, st.SearchStrategy[Any]], most: int = 4) -> st.SearchStrategy[Tree]:
    """Draw a few of the keys with their values."""
    names = st.lists(st.sampled_from(sorted(values)), max_size=most, unique=True)
    return names.flatmap(lambda keys: st.fixed_dictionaries({key: values[key] for key in keys}))


of = st.sampled_from


BURSTS = st.fixed_dictionaries(
    {"good_to_bad": of(SHARES[:3]), "bad_to_good": of(SHARES[2:])},
    optional={"loss_in_bad": of(SHARES), "loss_in_good": of(SHARES)},
)
IMPAIRMENTS: dict[str, st.SearchStrategy[Any]] = {
    "jitter": of(TIMES),
    "jitter_distribution": of(["uniform", "normal", "pareto"]),
    "jitter_reorders": of([True, False]),
    "reorder": of(SHARES),
    "loss": of(SHARES),
    "burst_loss": BURSTS,
    "duplicate": of(SHARES),
    "corrupt": of(SHARES),
}
CAPACITY: dict[str, st.SearchStrategy[Any]] = {
    "rate": of(RATES),
    "trace": of(list(TRACES)[:2]),
    "delay": of(TIMES),
}
QUEUE: dict[str, st.SearchStrategy[Any]] = {
    "queue": of([*QUEUES, ["10 packets", "10ms"]]),
    "discipline": of(["drop-tail", "red", "codel", "fq_codel", "pie"]),
    "ecn": of([True, False]),
    "red_min": of(QUEUES),
    "red_max": of(QUEUES),
    "red_probability": of(SHARES),
    "target": of(TIMES[1:4]),
    "interval": of(TIMES[4:]),
    "quantum": of([300, 1514, 65536]),
}
CHANNEL = {**CAPACITY, **IMPAIRMENTS, **QUEUE, "overhead": of([0, 24])}
DIRECTION = some(CHANNEL, 3)
LINK = {
    **CHANNEL,
    "rtt": of(TIMES),
    "mtu": of([576, 1280, 1500, 9000]),
    "up": of([True, True, False]),
    "families": of([["ipv4"], ["ipv6"], ["ipv4", "ipv6"]]),
    "forward": DIRECTION,
    "backward": DIRECTION,
}


def tidied(link: Tree) -> Tree:
    """Return a link without keys that exclude one another or that others of its keys ask for."""
    link = {"rate": "5Mb/s", "delay": "10ms", "discipline": "drop-tail"} | link
    for key, others in _EXCLUDED.items():
        if key in link:
            link = {each: value for each, value in link.items() if each not in others}
    own = _OF_DISCIPLINE[link["discipline"]]
    other = {key for keys in _OF_DISCIPLINE.values() for key in keys} - set(own)
    link = {key: value for key, value in link.items() if key not in other}
    if {"red_min", "red_max"} & link.keys():
        link |= {"queue": "100 packets", "red_min": "5 packets", "red_max": "20 packets"}
    if "jitter" in link:
        link["jitter"] = "2ms"
    else:
        for key in ("jitter_distribution", "jitter_reorders"):
            link.pop(key, None)
    for direction in ("forward", "backward"):
        if direction in link:
            kept = ("rate", "loss", "duplicate", "corrupt", "queue", "overhead")
            link[direction] = {key: each for key, each in link[direction].items() if key in kept}
    if {"jitter", "reorder"} & link.keys():
        link = {**link, "delay": "20ms"}
        link.pop("rtt", None)
    if link.get("queue") in ("1ms", "0.1 BDP", "1 packet", "2kB"):  # less than a frame at times
        link["rate"] = link["rate"] if link.get("rate") == "100Mb/s" else "20Mb/s"
        link.pop("trace", None)
    return link


_EXCLUDED = {"trace": ("rate",), "rtt": ("delay",), "burst_loss": ("loss",)}
_OF_DISCIPLINE: dict[str, tuple[str, ...]] = {
    "drop-tail": (),
    "red": ("ecn", "red_min", "red_max", "red_probability"),
    "codel": ("ecn", "target", "interval"),
    "fq_codel": ("ecn", "quantum", "interval"),
    "pie": ("ecn", "target"),
}
LINKS = some(LINK, 6).map(tidied)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "protocol": of(["mptcp", "tcp"]),
    "connections": of([1, 2, 5]),
    "start": of(["0s", "20ms", "150ms"]),
    "stop": of(["200ms", "100ms"]),
    "buffer": of([4096, "64KiB", "1MB"]),
    "congestion": of(["reno", "cubic", "lia", "olia", "balia", "dctcp", "bbr"]),
    "family": of(["ipv4", "ipv6"]),
}
APPLICATIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "bulk": {
        "size": of(["1", "20kB", "1MB"]),
        "write_rate": of(RATES),
        "read_rate": of(RATES),
        "write_size": of([1, 1000, 65536]),
    },
    "striped": {"size": of(["20kB", "1MB"])},
    "request-response": {
        "request": of(SIZES),
        "response": of([*SIZES, "file sizes.txt"]),
        "think": of([*TIMES, "exponential 20ms"]),
        "persistent": of([True, False]),
        "count": of([1, 3]),
        "arrivals": of(["poisson 20ms", "uniform 1ms to 40ms", "file times.txt"]),
    },
    "web": {
        "objects": of([0, 3, 20]),
        "object_size": of(SIZES),
        "think": of(TIMES),
        "persistent": of([True, False]),
        "count": of([1, 3]),
    },
    "video": {
        "chunk": of(["50ms", "1s"]),
        "ladder": of([["100kb/s", "1Mb/s"], ["1Mb/s"]]),
        "playout_buffer": of(["100ms", "10s"]),
        "startup": of(["50ms", "5s"]),
    },
    "paced": {
        "rate": of(RATES[:4]),
        "message": of(SIZES),
        "on": of(TIMES[2:]),
        "off": of([*TIMES[2:], "exponential 50ms"]),
    },
    "udp": {
        "rate": of(RATES[:4]),
        "message": of(["100", "1200"]),
        "on": of(TIMES[2:]),
        "off": of(["exponential 50ms"]),
    },
}
TUNABLES = some(
    {
        "enabled": of([True, False]),
        "version": of([0, 1]),
        "checksum": of([True, False]),
        "mss": of([88, 1400]),
        "ndiffports": of([0, 1, 2, 8]),
        "ecn": of([True, False]),
        "path_manager": of(["link-aware", "kernel"]),
        "scheduler": of(["default", "linux-default", "round-robin", "redundant", "blest", "ecf"]),
        "debug": of([True, False]),
    }
)
HOST = some(
    {
        "offload": of([True, False]),
        "cpu": of(["none", "2012", "modern"]),
        "tunables": TUNABLES,
        "routes": st.dictionaries(
            st.sampled_from(["default", "h0", "h1", "10.0.1.0/24"]),
            of(["r0", "l0", "unreachable"]),
            max_size=1,
        ),
    },
    2,
)
ROUTER = some(
    {
        "ecmp": of(["addresses", "ports"]),
        "routes": st.dictionaries(
            st.sampled_from(["default", "h0", "h1", "10.0.1.0/24"]),
            of(["r0", "r1", "l0", "unreachable", ["r0", "r1"]]),
            max_size=2,
        ),
    },
    2,
)
SIZED: dict[str, dict[str, list[Any]]] = {
    "dumbbell": {"hosts": [1, 2]},
    "leaf-spine": {"leaves": [2], "spines": [1, 2], "hosts": [1, 2]},
    "fat-tree": {"k": [2, 4]},
    "torus": {"size": [3, 4]},
    "parking-lot": {"hops": [1, 3]},
}


@st.composite
def flows(draw: st.DrawFn, ends: list[str]) -> Tree:
    """Draw a flow between two of the ends, with an application."""
    application = draw(st.sampled_from(sorted(APPLICATIONS)))
    own = APPLICATIONS[application]
    keys = {**draw(some(COMMON, 2)), **draw(some(own, 4))}
    if application in ("paced", "udp"):
        keys.setdefault("rate", "1Mb/s")
        if ("on" in keys) != ("off" in keys):
            keys |= {"on": "50ms", "off": "50ms"}
    if application in ("udp", "striped"):
        keys.pop("protocol", None)
    if application in ("udp", "video"):
        keys.pop("connections", None)
    if "tcp" in (keys.get("protocol"), {"striped": "tcp"}.get(application)):
        keys.pop("congestion", None)
    here, there = draw(st.permutations(ends))[:2]
    return {"from": here, "to": there, "application": application, **keys}


@st.composite
def joined(draw: st.DrawFn) -> tuple[Tree, list[str]]:
    """Draw hosts, switches and routers with links between them; and the ends of flows."""
    hosts = [f"h{number}" for number in range(draw(st.integers(2, 4)))]
    routers = [f"r{number}" for number in range(draw(st.integers(0, 4)))]
    fabric = {"fabric": "openvswitch"}
    both = {"s": {**fabric, "ecmp": "addresses"}, "s2": fabric}
    switches = draw(st.sampled_from([[], [], ["s"], ["s", "s2"], both]))
    inner = [*routers, *switches]
    pairs: list[tuple[str, str]] = []
    for number, host in enumerate(hosts):  # each host is joined, mostly so that all reach all
        near = [*inner, *hosts[:number]] or hosts[1:]
        pairs.append((host, draw(st.sampled_from(near))))
    pairs += list(pairwise(inner))
    any_end = st.permutations([*hosts, *inner]).map(lambda order: (order[0], order[1]))
    pairs += draw(st.lists(any_end, max_size=3))
    links = {
        f"l{number}": {**draw(LINKS), "between": list(pair)} for number, pair in enumerate(pairs)
    }
    tree: Tree = {"hosts": {host: draw(HOST) for host in hosts}, "links": links}
    if routers:
        tree["routers"] = {router: draw(ROUTER) for router in routers}
    if switches:
        tree["switches"] = switches
    return tree, hosts


@st.composite
def counted(draw: st.DrawFn) -> tuple[Tree, list[str]]:
    """Draw clients with a count behind a router; the flow is for each of them."""
    tree: Tree = {
        "hosts": {"client": {"count": draw(of([1, 2, 4]))}, "server": draw(HOST)},
        "routers": ["r"],
        "links": {
            "access": {**draw(LINKS), "for": draw(of(["client"])), "between": ["client", "r"]},
            "uplink": {**draw(LINKS), "between": ["r", "server"]},
        },
        "flows": {"up": {"for": "client", **draw(flows(["client", "server"]))}},
    }
    if draw(st.booleans()):
        tree["links"]["second"] = {**draw(LINKS), "for": "client", "between": ["client", "r"]}
    return tree, ["client1", "server"]


@st.composite
def generated(draw: st.DrawFn) -> tuple[Tree, list[str]]:
    """Draw a network by rule."""
    kind = draw(st.sampled_from(sorted(SIZED)))
    sizes = draw(some({key: of(values) for key, values in SIZED[kind].items()}, 3))
    traffic = draw(of(["pairs", "permutation"]))
    flow = draw(flows(["a", "b"]))
    rule: Tree = {
        "kind": kind,
        **sizes,
        "traffic": traffic,
        "ecmp": draw(of(["addresses", "ports"])),
        "link": draw(LINKS),
        "flow": {key: value for key, value in flow.items() if key not in ("from", "to")},
    }
    if draw(st.booleans()):
        rule["access"] = draw(LINKS)
    return {"generate": rule}, []


CHANGES = some({**CAPACITY, **IMPAIRMENTS, "rtt": of(TIMES)}, 2)


@st.composite
def actions(draw: st.DrawFn, links: list[str], flow_names: list[str]) -> Tree:
    """Draw a line of the timeline."""
    verb = draw(st.sampled_from(["up", "down", "change", "start", "stop"]))
    targets = flow_names if verb in ("start", "stop") else links
    action: Tree = {"at": draw(of(["10ms", "60ms", "150ms"])), verb: draw(of(targets or ["x"]))}
    if verb == "change":
        action |= draw(CHANGES)
    return action


def tables_of(tree: Any) -> Iterator[Tree]:
    """Yield every table within a tree, and the tree itself."""
    if isinstance(tree, dict):
        yield tree
    for below in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(below, dict | list):
            yield from tables_of(below)


@st.composite
def bent(draw: st.DrawFn, trees: st.SearchStrategy[Tree]) -> Tree:
    """Draw a tree of which one value is wrong or gone, or that has some too many."""
    tree = draw(trees)
    table = draw(st.sampled_from([each for each in tables_of(tree) if each]))
    key = draw(st.sampled_from(sorted(table)))
    change = draw(st.sampled_from(["wrong", "gone", "more"]))
    if change == "wrong":
        table[key] = draw(WRONG)
    elif change == "gone":
        del table[key]
    elif "links" in tree:
        table = tree["links"][draw(st.sampled_from(sorted(tree["links"])))]
        table |= draw(some(LINK, 3))
    return tree


@st.composite
def straight(draw: st.DrawFn) -> Tree:
    """Draw a scenario of a fraction of a second."""
    tree, ends = draw(st.one_of(joined(), joined(), counted(), generated()))
    tree = {"duration": "250ms", "interval": "50ms", **tree}
    if ends:
        tree.setdefault("flows", {})
        for number in range(draw(st.integers(1, 2))):
            tree["flows"][f"f{number}"] = draw(flows(ends))
    links, names = sorted(tree.get("links", {})), sorted(tree.get("flows", {}))
    if ends and "routers" in tree and "r" in tree["routers"]:
        links, names = ["uplink", "access1"], ["up1"]
    if links:
        tree["timeline"] = draw(st.lists(actions(links, names), max_size=3))
    if draw(st.booleans()):
        tree["tunables"] = draw(TUNABLES)
    if draw(st.booleans()):
        tree["families"] = draw(of([["ipv6"], ["ipv4", "ipv6"]]))
    if draw(st.booleans()):
        tree["expect"] = [draw(EXPECTED)]
    return tree


EXPECTED = st.one_of(
    st.fixed_dictionaries(
        {"goodput": of(RATES)},
        optional={"of": of(["total", "f0", "l0"]), "stage": of([0, 1]), "settle": of(TIMES)},
    ),
    st.fixed_dictionaries(
        {"latency": of(TIMES[1:]), "of": of(["f0", "f1", "up1"])},
        optional={"percentile": of([50, 95, 99.9])},
    ),
)
SCENARIOS = st.one_of(straight(), straight(), straight(), bent(straight()))
