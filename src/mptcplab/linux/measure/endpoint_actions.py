"""What the timeline does to the endpoints of hosts, on the kernel's stack and on ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mptcplab.linux.kernel.mptcp_endpoints import Address, Flags
from mptcplab.linux.lab.endpoint_plan import kernel_endpoint
from mptcplab.linux.measure.own_stack_host import StackHost
from mptcplab.linux.path_management.link_aware import LinkAwarePathManager
from mptcplab.scenario.model import Action, Scenario


class EndpointActions:
    """Carries out ``set_priority``, ``add_address`` and ``remove_address``."""

    def __init__(
        self,
        scenario: Scenario,
        stacks: Mapping[str, StackHost],
        endpoints: LinkAwarePathManager,
    ) -> None:
        self._scenario = scenario
        self._stacks = stacks
        self._endpoints = endpoints
        self._priorities: dict[tuple[str, Address], bool] = {}

    def perform(self, action: Action) -> None:
        """Do what an action says; OSError or RuntimeError where the kernel does not."""
        host = action.host
        assert host is not None
        if host in self._stacks:
            self._stacks[host].perform(action)
            return
        scenario = self._scenario
        if action.verb == "set_priority":
            backup = bool(dict(action.changes)["backup"])
            for address in scenario.addresses_of(action.target):
                self._priorities[host, address] = backup
                self._endpoints.set_priority(host, address, backup)
            return
        name = action.target.partition(":")[2]
        for wanted in scenario.endpoints[host].endpoints:
            if wanted.name != name:
                continue
            endpoint = kernel_endpoint(wanted)
            if action.verb == "remove_address":
                self._endpoints.remove(host, endpoint)
                continue
            backup = self._priorities.get((host, endpoint.address), wanted.backup)
            flags = endpoint.flags & ~Flags.BACKUP
            self._endpoints.add(
                host, replace(endpoint, flags=flags | Flags.BACKUP if backup else flags)
            )
