"""Paths with a link beyond a router that does not carry what their ends may send."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mptcplab.network.topology import Path
from mptcplab.scenario.model import Scenario, Tunables
from mptcplab.scenario.resolve.tunables import HEADER_BYTES


def narrow_paths(scenario: Scenario, hosts: Collection[str]) -> Iterator[str]:
    """Yield the links that are too small for flows of ``hosts``, whose stack finds no path MTU.

    The kernel's does (RFC 1191, RFC 8201); ours takes the MTU of its interface.
    """
    topology = scenario.topology
    for flow in scenario.flows:
        if not {flow.source, flow.destination} & set(hosts):
            continue
        for path in scenario.paths(flow):
            packet_bytes = largest_packet_bytes(scenario, path)
            for name in path.possible if path.routed else ():
                mtu = topology.link(name).mtu
                if mtu < packet_bytes:
                    yield (
                        f"links.{name}.mtu: {mtu} is less than the packets of {packet_bytes} bytes "
                        f"that {flow.name} sends, and mptcplab's stack does no path-MTU discovery; "
                        "expected the mtu of all links on the way at the hosts' own links too, or "
                        f"tunables.mss = {mtu - HEADER_BYTES[path.local_address.version]}"
                    )


def largest_packet_bytes(scenario: Scenario, path: Path) -> int:
    """Return the largest packet on a path by the MTUs of its ends and the MSS that hosts set."""
    header_bytes = HEADER_BYTES[path.local_address.version]
    sizes = [scenario.topology.interface_at(end).mtu for end in (path.local, path.remote)]
    for end in (path.local, path.remote):
        mss = scenario.tunables.get(end.host, Tunables()).mss
        if mss is not None:
            sizes.append(mss + header_bytes)
    return min(sizes)
