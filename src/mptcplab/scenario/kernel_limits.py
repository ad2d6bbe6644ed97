"""What a scenario asks for that no Linux kernel can do, and simulation can."""

from __future__ import annotations

from collections.abc import Iterator

from mptcplab.network.topology import Topology
from mptcplab.scenario.model import Scenario

MAX_ENDPOINTS = 8  # MPTCP_PM_ADDR_MAX of Linux up to 6.18 (net/mptcp/protocol.h)
MAX_SUBFLOWS = 9  # the initial one and the 8 more that Linux up to 6.18 takes


def beyond_kernels(scenario: Scenario) -> Iterator[str]:
    """Yield what keeps a scenario off the Linux testbed: key, value, and what it can have."""
    yield from beyond_bridges(scenario.topology)
    kernels = {host.name for host in scenario.topology.hosts if host.stack == "kernel"}
    for host in scenario.topology.hosts:
        addresses = sum(
            len(interface.addresses) for interface in host.interfaces if interface.multipath
        )
        if host.name in kernels and addresses > MAX_ENDPOINTS:
            yield (
                f"hosts.{host.name}.interfaces: {addresses} addresses take part in MPTCP; expected "
                f"at most {MAX_ENDPOINTS}, which is what Linux up to 6.18 holds: choose links with "
                "`use`, or set multipath = false for some"
            )
    for flow in scenario.flows:
        subflows = len(scenario.expected_subflows(flow))
        if subflows > MAX_SUBFLOWS and kernels & {flow.source, flow.destination}:
            yield (
                f"flows.{flow.name}: {subflows} subflows for each connection; expected at most "
                f"{MAX_SUBFLOWS}, the initial one and what Linux up to 6.18 adds"
            )


def beyond_bridges(topology: Topology) -> Iterator[str]:
    """Yield the links that close a ring of switches, in which a bridge's frames would circulate."""
    for name in topology.ring_links():
        link = topology.link(name)
        yield (
            f"links.{name}.between: closes a ring of switches between {link.a} and {link.b}; "
            "expected one way only between two switches, which are bridges"
        )
