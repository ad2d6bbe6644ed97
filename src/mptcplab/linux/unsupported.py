"""What a scenario may ask for and the Linux testbed has not, found before anything is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mptcplab.scenario.model import KERNEL_SCHEDULERS, Scenario
from mptcplab.scenario.schema import SIMULATED_CONGESTION

_SCHEDULERS: Final = Path("/proc/sys/net/mptcp/available_schedulers")
_INSTEAD: Final = "or --on simulated"


class UnsupportedError(ValueError):
    """A scenario asks for what this testbed cannot do; the text says what to change."""

    exit_status = 2  # bad input


def check_supported(scenario: Scenario) -> None:
    """Raise UnsupportedError, a line for each thing that the kernel's MPTCP does not offer."""
    found = [f"{scenario.source}: {problem}" for problem in _problems(scenario)]
    if found:
        raise UnsupportedError("\n".join(dict.fromkeys(found)))


def _problems(scenario: Scenario) -> Iterator[str]:
    for host in scenario.topology.hosts:
        if host.stack != "kernel":
            yield (
                f'hosts.{host.name}.stack: "{host.stack}" is not what hosts of the Linux testbed '
                f'run; expected "kernel", {_INSTEAD}'
            )
    schedulers = _available_schedulers()
    for tunables in scenario.tunables.values():
        if tunables.scheduler not in (*KERNEL_SCHEDULERS, *schedulers):
            yield (
                f'tunables.scheduler: "{tunables.scheduler}" is none of this kernel\'s; expected '
                f"one of {', '.join(schedulers)}, {_INSTEAD}"
            )
        if ":" in tunables.path_manager:
            yield (
                f'tunables.path_manager: "{tunables.path_manager}" is a class for mptcplab\'s own '
                f'stack; expected "link-aware" or "kernel", {_INSTEAD}'
            )
    for flow in scenario.flows:
        if ":" in flow.congestion or flow.congestion in SIMULATED_CONGESTION:
            yield (
                f'flows.{flow.name}.congestion: "{flow.congestion}" is of mptcplab\'s own stack '
                f'alone; expected a congestion control of kernels, such as "cubic", {_INSTEAD}'
            )


def _available_schedulers() -> list[str]:
    try:
        return _SCHEDULERS.read_text().split()
    except OSError:  # Linux before 6.8 has no other
        return ["default"]
