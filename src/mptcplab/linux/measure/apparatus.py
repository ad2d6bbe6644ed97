"""What every part of a measurement works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.measure.event_log import EventLog
from mptcplab.linux.measure.identity import Identities
from mptcplab.linux.measure.link_control import Links
from mptcplab.linux.measure.own_stack_host import StackHost
from mptcplab.linux.measure.sampler import hosts_of
from mptcplab.linux.traffic.flows import Flows
from mptcplab.loop import RealTimeLoop
from mptcplab.scenario.model import Scenario


@dataclass(frozen=True, slots=True)
class Apparatus:
    """A lab with its scenario: links and flows, the loop that serves them, names and a log.

    ``stacks`` holds the hosts that run our stack, by name.
    """

    scenario: Scenario
    lab: Lab
    loop: RealTimeLoop
    identities: Identities
    log: EventLog
    links: Links
    stacks: Mapping[str, StackHost]
    flows: Flows

    @property
    def hosts(self) -> list[str]:
        """The hosts at which any flow ends."""
        return hosts_of(self.flows.connections())
