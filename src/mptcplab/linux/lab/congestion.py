"""Congestion controls of a scenario's flows: those that the kernel has, and those by BPF."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mptcplab.applications.workloads import GridFtp
from mptcplab.linux import bpf
from mptcplab.linux.kernel.bpf import BpfError, Registration, controls_of, try_loading
from mptcplab.scenario.model import Flow, Scenario, is_bpf_object
from mptcplab.scenario.schema.keys import KERNEL_COUPLED, SIMULATED_CONGESTION

COUPLED_OBJECT: Final = Path(bpf.__file__).with_name("coupled.bpf.o")
"""LIA, OLIA and BALIA; made from ``coupled.bpf.c`` when mptcplab is built."""
_AVAILABLE: Final = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


class Controls:
    """What a scenario's flows have by BPF, registered until it is closed.

    ``names`` has, by the name in the scenario, the one that sockets are to ask for.
    """

    def __init__(self, scenario: Scenario) -> None:
        """Register them; BpfError where that cannot be."""
        self.names: dict[str, str] = {}
        self._registrations: list[Registration] = []
        try:
            for name, source in _objects(scenario).items():
                if source == COUPLED_OBJECT and name in self.names:
                    continue
                registration = Registration(source)
                self._registrations.append(registration)
                if source == COUPLED_OBJECT:
                    self.names |= registration.names
                else:
                    self.names[name] = next(iter(registration.names.values()))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unregister them."""
        for registration in self._registrations:
            registration.close()
        self._registrations = []


def imposed_congestion(scenario: Scenario, names: Mapping[str, str]) -> dict[str, str]:
    """Return the congestion control of all that a host sends, for those where GridFTP does.

    Its programs choose none, and the default of a network namespace may only be one that the
    machine allows everybody (net.ipv4.tcp_allowed_congestion_control); that of a route may be any.
    ``names`` are those of :class:`Controls`.
    """
    return {
        flow.source: names.get(flow.congestion, flow.congestion)
        for flow in scenario.flows
        if isinstance(flow.workload, GridFtp)
    }


def clashing_congestion(scenario: Scenario) -> Iterator[str]:
    """Yield the flows that would not have theirs, since their sender's is imposed by GridFTP."""
    imposed = imposed_congestion(scenario, {})
    for flow in scenario.flows:
        wanted = imposed.get(flow.source, flow.congestion)
        if flow.congestion != wanted and flow.protocol in ("mptcp", "tcp"):
            yield (
                f'flows.{flow.name}.congestion: "{flow.congestion}", where a GridFTP flow from '
                f'{flow.source} has "{wanted}", which is then that of all that the host sends; '
                "expected the same for all its flows, or another host"
            )


def coupled_obstacle() -> str | None:
    """Return why this machine's kernel cannot have LIA, OLIA and BALIA, and what to do."""
    if not COUPLED_OBJECT.exists():
        return (
            f"{COUPLED_OBJECT.name} was not built, since there was no clang; "
            "install clang, then mptcplab again"
        )
    try:
        try_loading(COUPLED_OBJECT)
    except BpfError as error:
        return str(error)
    return None


def missing_controls(scenario: Scenario) -> Iterator[str]:
    """Yield which flows of the kernel's have a congestion control that it cannot have."""
    tried: dict[str, str | None] = {}
    for flow in _kernel_flows(scenario):
        name = flow.congestion
        if name not in tried:
            tried[name] = _why_not(scenario, name)
        why = tried[name]
        if why:
            yield f'flows.{flow.name}.congestion: "{name}": {why}'


def _why_not(scenario: Scenario, name: str) -> str | None:
    if name in KERNEL_COUPLED:
        return coupled_obstacle()
    if is_bpf_object(name):
        try:
            source = _object(scenario, name)
            try_loading(source)
            controls = controls_of(source, source.read_bytes())
        except (BpfError, OSError) as error:
            return str(error)
        if len(controls) > 1:
            return f"{source} has {', '.join(controls)}; expected one congestion control"
        return None
    if ":" in name or name in SIMULATED_CONGESTION or _kernel_has(name):
        return None
    return f"this kernel has no such module; expected one of {', '.join(available())}"


def available() -> list[str]:
    """Return the congestion controls that the kernel has loaded."""
    try:
        return _AVAILABLE.read_text().split()
    except OSError:
        return []


def _kernel_has(name: str) -> bool:
    """Return whether a socket may have it, which makes the kernel look for its module."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
        except FileNotFoundError:
            return False
        except PermissionError:  # it is there, and a lab may use it
            return True
    return True


def _kernel_flows(scenario: Scenario) -> Iterator[Flow]:
    for flow in scenario.flows:
        if scenario.topology.host(flow.source).stack == "kernel" and flow.protocol in (
            "tcp",
            "mptcp",
        ):
            yield flow


def _objects(scenario: Scenario) -> dict[str, Path]:
    """Return the objects that flows need, by the name of their congestion control."""
    objects = {}
    for flow in _kernel_flows(scenario):
        if flow.congestion in KERNEL_COUPLED:
            objects[flow.congestion] = COUPLED_OBJECT
        elif is_bpf_object(flow.congestion):
            objects[flow.congestion] = _object(scenario, flow.congestion)
    return objects


def _object(scenario: Scenario, name: str) -> Path:
    """Return an object's file, beside the scenario or in the current folder."""
    beside = Path(scenario.source).absolute().parent / name
    return beside if beside.exists() else Path(name).absolute()
