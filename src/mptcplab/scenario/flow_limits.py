"""What bounds the flows of a scenario: the links and NICs of their paths, and their buffers.

A run keeps it beside its tables, so that what held a connection back can be told from the folder.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from mptcplab.network.topology import InterfaceEnd, Path, Topology
from mptcplab.scenario.buffers import (
    AUTOTUNED_RECEIVE_BYTES,
    AUTOTUNED_SEND_BYTES,
    data_directions,
    path_rate_bps,
    queue_ns,
)
from mptcplab.scenario.model import Flow, Scenario, Tunables
from mptcplab.units import BITS_NS


def flow_limits(
    scenario: Scenario, windows: Mapping[str, Mapping[str, int | float]]
) -> list[dict[str, Any]]:
    """Return an object for each flow: its paths in the direction of the data, and its buffers.

    ``windows`` has for flows to our stack the ``receive_window_max_bytes``, and as ``window_share``
    what of a receive buffer is window; of a kernel's neither is known before.

    A path has the ``source`` and ``destination`` addresses, ``links`` as (name, direction), the
    rate of its slowest part (bit/s, None where it has none), the round trip of its links (ns), how
    long the queue of the slowest takes to send when it is full (ns), the ``loss`` that its links
    are set to (0 to 1), and ``nics`` with a rate of their own, each with what else goes through it.
    """
    unknown = {"receive_window_max_bytes": None, "window_share": None}
    return [
        _of_flow(scenario, flow) | unknown | dict(windows.get(flow.name, {}))
        for flow in scenario.flows
    ]


def most_bps(scenario: Scenario) -> dict[tuple[str, str], float]:
    """Return the most that flows can send over each link and direction (bit/s).

    It is what the slowest parts of their paths, their buffers over the round trip without queues,
    and the rates of their applications let through; of the links that a timeline shapes only the
    last are known. Directions that only acknowledgments take are left out.
    """
    shaped = any(action.verb == "set" for action in scenario.timeline)
    most: dict[tuple[str, str], float] = defaultdict(float)
    for flow in scenario.flows:
        limits = _of_flow(scenario, flow)
        window_bytes = min(
            limits[f"{side}_buffer_bytes"] or limits[f"{side}_buffer_max_bytes"]
            for side in ("send", "receive")
        )
        rates = (flow.write_rate_bps, flow.read_rate_bps)
        application_bps = min((rate for rate in rates if rate is not None), default=math.inf)
        for path in limits["paths"]:
            each_bps = application_bps
            if path["rtt_ns"] and not shaped:
                each_bps = min(each_bps, window_bytes * BITS_NS / path["rtt_ns"])
            path_bps = flow.connections * each_bps
            if path["rate_bps"] is not None and not shaped:
                path_bps = min(path_bps, path["rate_bps"])
            for name, direction in path["links"]:
                most[name, direction] += path_bps
    return dict(most)


def _of_flow(scenario: Scenario, flow: Flow) -> dict[str, Any]:
    sender = scenario.tunables.get(flow.source, Tunables())
    receiver = scenario.tunables.get(flow.destination, Tunables())
    expected = set(scenario.expected_subflows(flow))
    if flow.protocol == "sctp" and not flow.cmt:
        expected = set(scenario.paths(flow)[:1])  # the others are for when it fails
    return {
        "flow": flow.name,
        "paths": [
            _path(scenario, flow, path)
            for path in scenario.paths(flow)
            if path in expected or flow.is_striped
        ],
        "send_buffer_bytes": flow.send_buffer_bytes,
        "send_buffer_max_bytes": sender.send_buffer_max_bytes or AUTOTUNED_SEND_BYTES,
        "receive_buffer_bytes": flow.receive_buffer_bytes,
        "receive_buffer_max_bytes": receiver.receive_buffer_max_bytes or AUTOTUNED_RECEIVE_BYTES,
    }


def _path(scenario: Scenario, flow: Flow, path: Path) -> dict[str, Any]:
    topology = scenario.topology
    sends = flow.client == flow.source
    ends = (path.local, path.remote) if sends else (path.remote, path.local)
    addresses = (path.local_address, path.remote_address)
    source, destination = addresses if sends else addresses[::-1]
    directions = data_directions(topology, flow, path)
    arrives = math.prod(
        1 - getattr(topology.link(name), direction).missing for name, direction in directions
    )
    return {
        "source": str(source.ip),
        "destination": str(destination.ip),
        "links": [list(step) for step in directions],
        "rate_bps": path_rate_bps(scenario, flow, path),
        "rtt_ns": topology.rtt_ns(path),
        "queue_ns": queue_ns(scenario, flow, path),
        "loss": 1 - arrives,
        "nics": [
            nic
            for end, leaves in zip(ends, (True, False), strict=True)
            if (nic := _nic(topology, end, leaves=leaves)) is not None
        ],
    }


def _nic(topology: Topology, end: InterfaceEnd, *, leaves: bool) -> dict[str, Any] | None:
    """Return the NIC at the end of a path and the links through it, None where it has no rate."""
    nic = topology.nic_at(end)
    if nic.rate_bps is None:
        return None
    links = []
    for interface in topology.host(end.host).interfaces:
        here = InterfaceEnd(end.host, interface.name)
        link = topology.link_at(here) if interface.nic == nic.name else None
        if link is not None:
            links.append([link.name, "forward" if (link.a == here) == leaves else "backward"])
    return {"name": f"{end.host}:{nic.name}", "rate_bps": nic.rate_bps, "links": links}
