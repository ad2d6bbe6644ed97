"""Which classes a scenario's policies are: those that come with the stack, or a user's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from mptcplab.scenario.model import Flow, Scenario, Tunables
from mptcplab.scenario.plugins import trusted_folder_of
from mptcplab.stack.config import CongestionFactory
from mptcplab.stack.congestion import CONGESTION_CONTROLS, CongestionControl
from mptcplab.stack.path_managers import InitialOnly, NdiffPorts, PathManager
from mptcplab.stack.plugin import PluginError, is_reference, policy_class
from mptcplab.stack.schedulers import SCHEDULERS, Scheduler
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt
from mptcplab.tuning.endpoints import EndpointTable, endpoints_manager, sources_of
from mptcplab.tuning.paths import Pairs, Routed, RoutedMesh

_REQUIRED: dict[Any, str] = {
    CongestionControl: "avoid_congestion",
    PathManager: "on_established",
    Scheduler: "select",
}
"""The one method that each abstract class leaves to its subclasses."""


def check_policies(scenario: Scenario, hosts: Collection[str] | None = None) -> None:
    """Raise PluginError where the scenario names a class that cannot be used.

    ``hosts`` are those with our stack, None for all.
    """
    for flow in scenario.flows:
        if is_reference(flow.congestion):
            _own(f"flows.{flow.name}.congestion", flow.congestion, CongestionControl, scenario, 2)
    for host in scenario.tunables if hosts is None else hosts:
        scheduler_for(scenario, host)
        _own_path_manager(scenario, host)


def congestion_for(scenario: Scenario, flow: Flow) -> CongestionFactory:
    """Return what makes the congestion control of a flow's subflows."""
    if is_reference(flow.congestion):
        key = f"flows.{flow.name}.congestion"
        own: CongestionFactory = _own(key, flow.congestion, CongestionControl, scenario, 2)
        return own
    return CONGESTION_CONTROLS[flow.congestion]


def scheduler_for(scenario: Scenario, host: str) -> Callable[[], Scheduler]:
    """Return what makes the scheduler of a host's connections.

    The "default" is the one of 2012, lowest RTT first with its two cures for small buffers (NSDI
    2012, section 4.2); Linux's own present one is "linux-default".  Raises PluginError for one that
    only kernels have.
    """
    name = scenario.tunables.get(host, Tunables()).scheduler
    if is_reference(name):
        own: type[Scheduler] = _own("tunables.scheduler", name, Scheduler, scenario, 0)
        return own
    if name == "default":
        return LowestRtt
    if name not in SCHEDULERS:
        raise PluginError(
            f'{scenario.source}: tunables.scheduler: "{name}" is a scheduler of kernels; our own '
            f"stack has {', '.join(SCHEDULERS)}"
        )
    return SCHEDULERS[name]


def path_manager_for(
    scenario: Scenario, flow: Flow, host: str, table: EndpointTable | None = None
) -> Callable[[], PathManager]:
    """Return what makes the path manager of a flow's connections at one of its hosts.

    ``table`` has the endpoints and priorities of the host as they come to be; those of the start
    where it is None.
    """
    tunables = scenario.tunables.get(host, Tunables())
    pairs = _pairs(scenario, flow, host)
    own = _own_path_manager(scenario, host)
    if own is not None:
        return lambda: Routed(own(), pairs)
    if tunables.ndiffports == 0:
        return InitialOnly
    if tunables.ndiffports > 1:
        return lambda: NdiffPorts(tunables.ndiffports)
    link_aware = tunables.path_manager == "link-aware"
    present = EndpointTable(scenario, host) if table is None else table
    if scenario.endpoints:
        sources = sources_of(scenario, flow, host)
        return lambda: endpoints_manager(present, link_aware, sources)
    return lambda: RoutedMesh(link_aware, pairs, present.backups)


def _pairs(scenario: Scenario, flow: Flow, host: str) -> Pairs:
    """Return the (local, remote) addresses at ``host`` that links of the flow join."""
    return frozenset(
        (path.local_address.ip.packed, path.remote_address.ip.packed)
        if host == flow.client
        else (path.remote_address.ip.packed, path.local_address.ip.packed)
        for path in scenario.paths(flow)
    )


def _own_path_manager(scenario: Scenario, host: str) -> type[PathManager] | None:
    name = scenario.tunables.get(host, Tunables()).path_manager
    if not is_reference(name):
        return None
    own: type[PathManager] = _own("tunables.path_manager", name, PathManager, scenario, 0)
    return own


def _own(key: str, name: str, base: Any, scenario: Scenario, arguments: int) -> Any:
    """Return a user's class; ``base`` is Any because an abstract class is no ``type[T]``."""
    own = trusted_folder_of(name)
    if own is not None and str(own) not in sys.path:
        sys.path.insert(0, str(own))  # what the user's environment names is what is meant
    folders = (Path.cwd(), Path(scenario.source).absolute().parent) if own is None else ()
    try:
        return policy_class(name, base, folders, arguments, _REQUIRED[base])
    except PluginError as error:
        raise PluginError(f'{scenario.source}: {key}: "{name}": {error}') from error
