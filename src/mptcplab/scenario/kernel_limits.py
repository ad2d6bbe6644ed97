"""What a scenario asks for that no Linux kernel can do, and simulation can."""

from __future__ import annotations

from collections.abc import Collection, Iterator

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
        if (
            flow.protocol == "mptcp"
            and subflows > MAX_SUBFLOWS
            and kernels & {flow.source, flow.destination}
        ):
            yield (
                f"flows.{flow.name}: {subflows} subflows for each connection; expected at most "
                f"{MAX_SUBFLOWS}, the initial one and what Linux up to 6.18 adds"
            )
    yield from _priorities_of_several(scenario, kernels)


def _priorities_of_several(scenario: Scenario, kernels: Collection[str]) -> Iterator[str]:
    """Yield the priorities that a kernel would change for one of several subflows alone."""
    for action in scenario.timeline:
        if action.verb != "set_priority" or action.host not in kernels:
            continue
        addresses = scenario.addresses_of(action.target)
        for flow in scenario.flows:
            for address in addresses if action.host in (flow.source, flow.destination) else ():
                count = sum(
                    address in (path.local_address.ip, path.remote_address.ip)
                    for path in scenario.expected_subflows(flow)
                )
                if count > 1:
                    yield (
                        f"timeline: set_priority of {action.target}: {count} subflows of "
                        f"{flow.name} have the address {address}, and Linux up to 6.18 changes the "
                        "first of them; expected an address that one subflow has"
                    )


def beyond_bridges(topology: Topology) -> Iterator[str]:
    """Yield the links that close a ring of switches, in which a bridge's frames would circulate."""
    for name in topology.ring_links():
        link = topology.link(name)
        yield (
            f"links.{name}.between: closes a ring of switches between {link.a} and {link.b}; "
            "expected one way only between two switches, which are bridges"
        )
