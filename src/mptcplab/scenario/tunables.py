"""Tunables of each host, and whether its MTUs and its kernel can follow them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mptcplab.network.topology import Topology
from mptcplab.scenario.errors import Path, Problems
from mptcplab.scenario.model import Scenario, Tunables
from mptcplab.scenario.schema import TUNABLES
from mptcplab.units import format_duration

Values = dict[str, Any]
IPV4_TCP_HEADER_BYTES = 40  # RFC 9293 section 3.7.1: MSS is the MTU less the fixed headers
IPV6_TCP_HEADER_BYTES = 60
MAX_SUBFLOWS = 9  # the initial one and the 8 more that Linux up to 6.18 takes

_FIELDS = {
    "receive_buffer_max": "receive_buffer_max_bytes",
    "send_buffer_max": "send_buffer_max_bytes",
    "tcp_rto_max_ms": "rto_max_ms",
    "tcp_retries2": "retries2",
    "close_timeout": "close_timeout_s",
    "add_addr_timeout": "add_addr_timeout_s",
}
_NAMED_SYSCTLS = {
    "net.mptcp.enabled": "enabled",
    "net.mptcp.checksum_enabled": "checksum",
    "net.mptcp.scheduler": "scheduler",
    "net.mptcp.path_manager": "path_manager",
    "net.mptcp.pm_type": "path_manager",
    "net.mptcp.stale_loss_cnt": "stale_loss_cnt",
    "net.mptcp.close_timeout": "close_timeout",
    "net.mptcp.add_addr_timeout": "add_addr_timeout",
    "net.ipv4.tcp_rto_max_ms": "tcp_rto_max_ms",
    "net.ipv4.tcp_retries2": "tcp_retries2",
    "net.ipv4.tcp_rmem": "receive_buffer_max",
    "net.ipv4.tcp_wmem": "send_buffer_max",
}


def build_tunables(values: Values, topology: Topology, problems: Problems) -> dict[str, Tunables]:
    given = values["tunables"] or {}
    result = {}
    for host in topology.hosts:
        own = values["hosts"].get(host.name, {}).get("tunables")
        path: Path = ("hosts", host.name, "tunables") if own else ("tunables",)
        result[host.name] = _tunables_of(_overlaid(given, own or {}), path, problems)
        if result[host.name].sysctls and host.stack == "ours":
            problems.add(
                (*path, "sysctls"),
                f"{host.name} runs our stack, which knows no sysctls",
                'stack = "kernel", or the named tunables',
            )
    return result


def _overlaid(common: Values, own: Values) -> Values:
    defaults = {name: key.default for name, key in TUNABLES.keys.items()}
    result = {**defaults, **common}
    for name, value in own.items():
        if name == "sysctls":
            result[name] = {**(common.get(name) or {}), **value}
        elif value is not None:
            result[name] = value
    return result


def _tunables_of(values: Values, path: Path, problems: Problems) -> Tunables:
    arguments: Values = {}
    for name, value in values.items():
        if name in ("close_timeout", "add_addr_timeout") and value is not None:
            if value % 1_000_000_000:
                problems.add(
                    (*path, name), f"{format_duration(value)} is not whole seconds", 'such as "60s"'
                )
            arguments[_FIELDS[name]] = value // 1_000_000_000
        else:
            arguments[_FIELDS.get(name, name)] = value
    sysctls = values.get("sysctls") or {}
    for name in sysctls:
        if name in _NAMED_SYSCTLS:
            problems.add(
                (*path, "sysctls", name),
                "has a name of its own here",
                f"tunables.{_NAMED_SYSCTLS[name]}",
            )
    arguments["sysctls"] = tuple(sorted(sysctls.items()))
    known = {field.name for field in fields(Tunables)}
    return Tunables(**{name: value for name, value in arguments.items() if name in known})


def check_mss(scenario: Scenario, problems: Problems) -> None:
    """Note a host whose MSS does not fit the MTU of a path that its flows use."""
    for flow in scenario.flows:
        for path in scenario.paths(flow):
            mtus = {name: scenario.topology.link(name).mtu for name in path.links}
            for end in (path.local, path.remote):
                mtus[str(end)] = scenario.topology.interface_at(end).mtu
            narrow = min(mtus, key=lambda name: mtus[name])
            version = path.local_address.version
            headers = IPV4_TCP_HEADER_BYTES if version == 4 else IPV6_TCP_HEADER_BYTES
            for host in (path.local.host, path.remote.host):
                mss = scenario.tunables[host].mss
                if mss is not None and mss + headers > mtus[narrow]:
                    problems.add(
                        ("tunables", "mss"),
                        f"{mss} does not fit the MTU of {mtus[narrow]} on {narrow}",
                        f"{mtus[narrow] - headers} at most (the MTU less {headers} bytes of "
                        f"headers), or a larger mtu",
                    )
                    return


def check_subflows(scenario: Scenario, problems: Problems) -> None:
    for flow in scenario.flows:
        subflows = len(scenario.expected_subflows(flow))
        kernel = scenario.topology.host(flow.destination).stack == "kernel"
        if kernel and subflows > 9:
            problems.add(
                ("flows", flow.name),
                f"{subflows} subflows for each connection",
                "at most 9: the initial one and the 8 more that Linux up to 6.18 takes",
            )
