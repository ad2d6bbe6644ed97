"""The drawing of a network: where hosts, switches and routers stand, and which links join them.

Nodes stand in columns by their distance from the hosts that send, which are on the left; links end
at the ports of nodes, in the order of the links, so that parallel links do not cross.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from mptcplab.plain_text import printable

MOST_NODES: Final = 160
"""More are not drawn: nobody would see anything."""

_NODE_WIDTH: Final = 190
_BETWEEN: Final = 250
"""Of columns: room for the text of a link."""
_HEAD: Final = 26
_PORT: Final = 42
_GAP: Final = 26
_CROWDED: Final = 40
"""Nodes, from which on ports have no text and stand closer."""


@dataclass(slots=True)
class Node:
    """A box of the drawing; ``ports`` are (text, second line) of the edges that end there.

    ``places`` are where on it they end: (-1 for the left side and 1 for the right, y).
    """

    name: str
    kind: str
    """"host", "switch" or "router"."""
    ports: list[tuple[str, str]] = field(default_factory=list)
    column: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = _NODE_WIDTH
    height: float = _HEAD
    places: list[tuple[int, float]] = field(default_factory=list)


@dataclass(slots=True)
class Edge:
    """A link or subflow between two ports, each a node's number and a port's number in it.

    ``rates`` says which series of which plot has what it carries, by direction.
    """

    name: str
    ends: tuple[tuple[int, int], tuple[int, int]]
    text: str = ""
    capacity_bps: int | None = None
    rates: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By "forward" and "backward": (key of the plot, number of the series)."""
    ups: list[tuple[float, bool]] = field(default_factory=list)
    """(time in s, whether it is up from then on), in order."""
    colour: int = 0
    via: list[tuple[float, float, float]] = field(default_factory=list)
    """Where it passes columns between its ends: from x to x, at y."""


@dataclass(slots=True)
class Drawing:
    """Nodes and edges, with places."""

    nodes: list[Node]
    edges: list[Edge]
    title: str

    def place(self, first: Sequence[int]) -> None:
        """Give every node its place; ``first`` are the numbers of those on the left."""
        neighbours: dict[int, list[int]] = {number: [] for number in range(len(self.nodes))}
        for edge in self.edges:
            (a, _), (b, _) = edge.ends
            neighbours[a].append(b)
            neighbours[b].append(a)
        distance = dict.fromkeys(first, 0)
        waiting = list(first)
        while waiting:
            here = waiting.pop(0)
            for other in neighbours[here]:
                if other not in distance:
                    distance[other] = distance[here] + 1
                    waiting.append(other)
        for number, node in enumerate(self.nodes):
            node.column = distance.get(number, 0)
        for number, node in enumerate(self.nodes):
            if node.kind == "host" and number not in first:  # beyond all that it is plugged into
                between = [
                    self.nodes[other].column
                    for other in neighbours[number]
                    if self.nodes[other].kind != "host"
                ]
                node.column = max([node.column, *(column + 1 for column in between)])
        lanes = self._lanes()
        port = _PORT if len(self.nodes) <= _CROWDED else 16
        for node, sides in zip(self.nodes, self._sides(), strict=True):
            node.height = _HEAD + max(port * max(sides.count(-1), sides.count(1)), 6)
        columns = self._in_order(lanes)
        heights = {
            column: sum(node.height + _GAP for node in nodes) - _GAP
            for column, nodes in columns.items()
        }
        most = max(heights.values(), default=0)
        for column, nodes in columns.items():
            y = (most - heights[column]) / 2
            for node in nodes:
                node.x = column * (_NODE_WIDTH + _BETWEEN)
                node.y = y
                y += node.height + _GAP
        for number, passed in lanes.items():
            self.edges[number].via = [
                (lane.x, lane.x + lane.width, lane.y + lane.height / 2) for lane in passed
            ]

        self._place_ports()

    def _sides(self) -> list[list[int]]:
        """Return, for each port of each node, the side on which it is."""
        sides = [[1] * len(node.ports) for node in self.nodes]
        for edge in self.edges:
            (a, port_a), (b, port_b) = edge.ends
            if self.nodes[a].column < self.nodes[b].column:
                sides[b][port_b] = -1
            elif self.nodes[b].column < self.nodes[a].column:
                sides[a][port_a] = -1
        return sides

    def _place_ports(self) -> None:
        """Say where ports are: on each side from above to below by where their edges come from."""
        wanted: list[list[float]] = [[0.0] * len(node.ports) for node in self.nodes]
        for edge in self.edges:
            for end in (0, 1):
                node, port = edge.ends[end]
                other, there = edge.ends[end ^ 1]
                if edge.via:
                    wanted[node][port] = edge.via[
                        0 if self.nodes[node].column < self.nodes[other].column else -1
                    ][2]
                else:
                    far = self.nodes[other]
                    wanted[node][port] = far.y + far.height * (there + 1) / (len(far.ports) + 1)
        for box, sides, ys in zip(self.nodes, self._sides(), wanted, strict=True):
            box.places = [(side, 0.0) for side in sides]
            for side in (-1, 1):
                ports = [port for port, where in enumerate(sides) if where == side]
                if box.column:
                    ports.sort(key=ys.__getitem__)
                for place, port in enumerate(ports):
                    y = box.y + _HEAD + (box.height - _HEAD) * (place + 0.5) / len(ports)
                    box.places[port] = (side, y)

    def _lanes(self) -> dict[int, list[Node]]:
        """Return, by edge, what keeps room for it in the columns between its ends."""
        lanes = {}
        for number, edge in enumerate(self.edges):
            (a, _), (b, _) = edge.ends
            here, there = self.nodes[a].column, self.nodes[b].column
            step = 1 if there > here else -1
            between = range(here + step, there, step) if here != there else range(0)
            if len(between):
                lanes[number] = [Node("", "lane", column=column) for column in between]
        return lanes

    def _in_order(self, lanes: Mapping[int, list[Node]]) -> dict[int, list[Node]]:
        """Return the nodes and lanes of each column, by the places of what they join before it."""
        by_column: dict[int, list[Node]] = {}
        for node in [*self.nodes, *(lane for passed in lanes.values() for lane in passed)]:
            by_column.setdefault(node.column, []).append(node)
        joined: dict[int, list[tuple[Node, float]]] = {}
        for number, edge in enumerate(self.edges):
            (a, port_a), (b, port_b) = edge.ends
            chain = [self.nodes[a], *lanes.get(number, ()), self.nodes[b]]
            ports = [port_a, *(0 for _ in chain[2:]), port_b]
            for (one, port_one), (two, port_two) in pairwise(zip(chain, ports, strict=True)):
                joined.setdefault(id(one), []).append((two, port_two))
                joined.setdefault(id(two), []).append((one, port_one))
        row: dict[int, float] = {}
        ordered: dict[int, list[Node]] = {}
        for column in sorted(by_column):
            wanted = {}
            for place, node in enumerate(by_column[column]):
                before = [
                    row[id(other)] + port / 100
                    for other, port in joined.get(id(node), ())
                    if other.column < column and id(other) in row
                ]
                wanted[id(node)] = sum(before) / len(before) if before else float(place)
            nodes = sorted(by_column[column], key=lambda node: wanted[id(node)])
            row |= {id(node): float(place) for place, node in enumerate(nodes)}
            ordered[column] = nodes
        return ordered

    def to_json(self) -> dict[str, Any]:
        """Return what the page's script draws."""
        return {
            "title": printable(self.title),
            "nodes": [
                {
                    "name": printable(node.name),
                    "kind": node.kind,
                    "ports": [
                        [printable(text), printable(more), *place]
                        for (text, more), place in zip(node.ports, node.places, strict=True)
                    ],
                    "at": [node.x, node.y, node.width, node.height],
                }
                for node in self.nodes
            ],
            "edges": [
                {
                    "name": printable(edge.name),
                    "ends": edge.ends,
                    "text": printable(edge.text),
                    "capacity": edge.capacity_bps,
                    "rates": edge.rates,
                    "ups": edge.ups,
                    "colour": edge.colour,
                    "via": edge.via,
                }
                for edge in self.edges
            ],
        }


def of_topology(topology: Mapping[str, Any], first: Sequence[str], title: str) -> Drawing | None:
    """Return the drawing of a scenario's network; None for one of too many nodes.

    ``first`` are the hosts that stand on the left.  Edges are the links, in their order.
    """
    nodes: list[Node] = []
    numbers: dict[str, int] = {}
    addresses: dict[str, str] = {}
    plugged: dict[str, str] = {}
    for kind in ("host", "router", "switch"):
        for each in _listed(topology, f"{kind}s" if kind != "switch" else "switches"):
            name = str(each.get("name", ""))
            numbers[name] = len(nodes)
            nodes.append(Node(name, kind))
            for one in _listed(each, "interfaces"):
                texts = [text for text in _values(one, "addresses") if isinstance(text, str)]
                addresses[f"{name}:{one.get('name')}"] = ", ".join(texts)
            for port in _values(each, "ports"):
                plugged[str(port)] = name
    edges = []
    for link in topology["links"]:
        ends = []
        for end in (link["a"], link["b"]):
            name, _, interface = end.partition(":")
            if name not in numbers:
                numbers[name] = len(nodes)
                nodes.append(Node(name, "host"))
            node = nodes[numbers[name]]
            node.ports.append((interface, addresses.get(end, "")))
            ends.append((numbers[name], len(node.ports) - 1))
        edges.append(Edge(link["name"], (ends[0], ends[1])))
    for end, switch in plugged.items():  # a cable, which is no link of its own
        name, _, interface = end.partition(":")
        if name in numbers and switch in numbers:
            host, fabric = nodes[numbers[name]], nodes[numbers[switch]]
            host.ports.append((interface, addresses.get(end, "")))
            fabric.ports.append(("", ""))
            here = (numbers[name], len(host.ports) - 1)
            edges.append(Edge("", ((numbers[switch], len(fabric.ports) - 1), here)))
    if len(nodes) > MOST_NODES:
        return None
    drawing = Drawing(nodes, edges, title)
    drawing.place([numbers[name] for name in first if name in numbers] or [0])
    return drawing


def _listed(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the objects of a list; of what is none, nothing."""
    return [one for one in _values(value, key) if isinstance(one, dict)]


def _values(value: Mapping[str, Any], key: str) -> list[Any]:
    several = value.get(key)
    return several if isinstance(several, list) else []
