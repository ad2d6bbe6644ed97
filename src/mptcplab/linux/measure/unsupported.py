"""What a scenario may ask for and this testbed does not have, found before anything is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mptcplab.linux.lab.congestion import clashing_congestion, missing_controls
from mptcplab.linux.lab.host_limits import limit_bytes
from mptcplab.linux.traffic.plan import client_and_server
from mptcplab.linux.traffic.sctp import missing_library, unsupported_paths
from mptcplab.network.topology import Topology
from mptcplab.scenario.kernel_limits import beyond_bridges, beyond_kernels
from mptcplab.scenario.model import KERNEL_SCHEDULERS, Flow, Scenario, Tunables
from mptcplab.scenario.schema.keys import SIMULATED_CONGESTION
from mptcplab.stack.congestion import CONGESTION_CONTROLS
from mptcplab.stack.plugin import is_reference
from mptcplab.tuning.policies import check_policies

_SCHEDULERS: Final = Path("/proc/sys/net/mptcp/available_schedulers")
_INSTEAD: Final = "or --on simulated"


class UnsupportedError(ValueError):
    """A scenario asks for what this testbed cannot do; the text says what to change."""

    exit_status = 2  # bad input


def check_supported(scenario: Scenario) -> None:
    """Raise UnsupportedError, a line for each thing that the hosts' stacks do not offer.

    Raises PluginError for a class that a host with our stack cannot use.
    """
    problems = [f"{scenario.source}: {problem}" for problem in _problems(scenario)]
    if problems:
        raise UnsupportedError("\n".join(dict.fromkeys(problems)))
    if _ours(scenario.topology):
        check_policies(scenario, _ours(scenario.topology))


def check_standing(topology: Topology) -> None:
    """Raise UnsupportedError where a persistent testbed has a host with our stack, or a ring."""
    for problem in beyond_bridges(topology):
        raise UnsupportedError(problem)
    if _ours(topology):
        raise UnsupportedError(
            f'hosts.{min(_ours(topology))}.stack: "ours" serves the flows of a run, not programs; '
            'expected "kernel" for a persistent testbed'
        )


def _ours(topology: Topology) -> set[str]:
    return {host.name for host in topology.hosts if host.stack == "ours"}


def _problems(scenario: Scenario) -> Iterator[str]:
    yield from (f"{problem}, {_INSTEAD}" for problem in beyond_kernels(scenario))
    ours = _ours(scenario.topology)
    schedulers = _available_schedulers()
    for name, tunables in scenario.tunables.items():
        if name in ours:
            continue
        if tunables.scheduler not in (*KERNEL_SCHEDULERS, *schedulers):
            yield (
                f'tunables.scheduler: "{tunables.scheduler}" is of mptcplab\'s own stack alone; '
                f"expected one of this kernel's ({', '.join(schedulers)}; see "
                f'net.mptcp.available_schedulers), stack = "ours" for the sender, {_INSTEAD}'
            )
        if tunables.enabled and tunables.version == 0:
            yield (
                f"tunables.version: 0 on {name}: kernels speak version 1 (RFC 8684) alone; "
                f'expected stack = "ours" for the hosts of version 0, {_INSTEAD}'
            )
        if ":" in tunables.path_manager:
            yield (
                f'tunables.path_manager: "{tunables.path_manager}" is a class for mptcplab\'s own '
                f'stack; expected "link-aware" or "kernel", {_INSTEAD}'
            )
    yield from (f"{problem}, {_INSTEAD}" for problem in missing_controls(scenario))
    yield from clashing_congestion(scenario)
    for flow in scenario.flows:
        if flow.application != "bulk" and ours & {flow.source, flow.destination}:
            yield (
                f'flows.{flow.name}.application: "{flow.application}" does not run on our own '
                'stack on Linux; expected "bulk", stack = "kernel" for its hosts, or --on simulated'
            )
        if flow.application in ("iperf3", "gridftp"):
            yield from _buffer_problems(flow)
        if flow.protocol == "sctp":
            yield from _sctp_problems(scenario, flow, ours)
        client, server = client_and_server(flow)
        ports = scenario.tunables.get(client, Tunables()).ndiffports
        if ports > 1 and server in ours and client not in ours:
            yield (
                f"hosts.{client}.tunables.ndiffports: a kernel's client joins ports that its "
                f"server announces, which our own stack on {server} does not; expected 0 or "
                f"1, or the client on our stack too, {_INSTEAD}"
            )
        if flow.source in ours:
            if flow.congestion not in CONGESTION_CONTROLS and not is_reference(flow.congestion):
                yield (
                    f'flows.{flow.name}.congestion: "{flow.congestion}" is for kernels; our '
                    f"own stack, which sends, has {', '.join(CONGESTION_CONTROLS)}"
                )
            continue
        if ":" in flow.congestion or flow.congestion in SIMULATED_CONGESTION:
            yield (
                f'flows.{flow.name}.congestion: "{flow.congestion}" is of mptcplab\'s own stack '
                f'alone; expected a congestion control of kernels, such as "cubic" or "lia", '
                f'stack = "ours" for {flow.source}, {_INSTEAD}'
            )


def _buffer_problems(flow: Flow) -> Iterator[str]:
    """Yield why programs cannot have a flow's buffers: they ask for half of what kernels give."""
    asked = max(flow.send_buffer_bytes or 0, flow.receive_buffer_bytes or 0) // 2
    limit = limit_bytes()
    if limit is not None and limit < asked:
        yield (
            f"flows.{flow.name}.buffer: {flow.application} would ask for {asked} bytes, and this "
            f"machine's net.core.rmem_max and wmem_max allow {limit}; expected --raise-host-limits "
            '(root), those sysctls raised, a smaller buffer, or application = "bulk"'
        )


def _sctp_problems(scenario: Scenario, flow: Flow, ours: set[str]) -> Iterator[str]:
    """Yield why a flow cannot be over SCTP: the library, the hosts' stacks, or the network."""
    if ours & {flow.source, flow.destination}:
        yield (
            f'flows.{flow.name}.protocol: "sctp" is not of our own stack; expected '
            'stack = "kernel" for its hosts'
        )
    for what in (missing_library(), unsupported_paths(scenario, flow)):
        if what:
            yield f'flows.{flow.name}.protocol: "sctp": {what}'


def _available_schedulers() -> list[str]:
    try:
        return _SCHEDULERS.read_text().split()
    except OSError:  # Linux before 6.8 has no other
        return ["default"]
