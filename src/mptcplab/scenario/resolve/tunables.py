"""Tunables of each host, and whether they fit its MTUs and its kernel."""

from __future__ import annotations

from typing import Any

from mptcplab.network.topology import Path as NetworkPath
from mptcplab.network.topology import Topology
from mptcplab.scenario.errors import Path, Problems
from mptcplab.scenario.model import Scenario, Tunables
from mptcplab.scenario.schema.keys import TUNABLES
from mptcplab.units import format_duration
from mptcplab.wire.ip import IPV4_FIXED_BYTES, IPV6_FIXED_BYTES

Values = dict[str, Any]
HEADER_BYTES = {4: IPV4_FIXED_BYTES, 6: IPV6_FIXED_BYTES}
"""By IP version, what the MSS is less than the MTU (RFC 9293 section 3.7.1)."""

_DEFAULTS: Values = {
    name: {} if name == "sysctls" else key.default for name, key in TUNABLES.keys.items()
}
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
    "net.ipv4.tcp_ecn": "ecn",
    "net.ipv4.tcp_rmem": "receive_buffer_max",
    "net.ipv4.tcp_wmem": "send_buffer_max",
}


def build_tunables(values: Values, topology: Topology, problems: Problems) -> dict[str, Tunables]:
    """Return the tunables of each host: its own, else those of all hosts, else the defaults."""
    result = {}
    for host in topology.hosts:
        overlaid = dict(values["tunables"] or _DEFAULTS)
        paths: dict[str, Path] = {name: ("tunables", name) for name in overlaid}
        for name, value in _own(values, host.name).items():
            paths[name] = ("hosts", host.name, "tunables", name)
            overlaid[name] = {**overlaid["sysctls"], **value} if name == "sysctls" else value
        if host.stack == "ours":
            if paths["sysctls"][0] == "hosts":
                problems.add(
                    paths["sysctls"],
                    f"{host.name} uses mptcplab's stack, which has no sysctls",
                    'stack = "kernel", or the named tunables',
                )
            overlaid["sysctls"] = {}
        result[host.name] = _tunables_of(overlaid, paths, problems)
    return result


def _own(values: Values, host: str) -> Values:
    """Return what the file says of one host's tunables."""
    table = values["hosts"][host]["tunables"] or {}
    return {name: value for name, value in table.items() if value not in (None, {})}


def _tunables_of(values: Values, paths: dict[str, Path], problems: Problems) -> Tunables:
    arguments: Values = {}
    for name, value in values.items():
        if name in ("close_timeout", "add_addr_timeout") and value is not None:
            if value % 1_000_000_000:
                problems.add(
                    paths[name], f"{format_duration(value)} is not whole seconds", 'such as "60s"'
                )
            arguments[_FIELDS[name]] = value // 1_000_000_000
        else:
            arguments[_FIELDS.get(name, name)] = value
    for name in values["sysctls"]:
        if name in _NAMED_SYSCTLS:
            problems.add(
                (*paths["sysctls"], name),
                "has a key of its own",
                f"tunables.{_NAMED_SYSCTLS[name]}",
            )
    arguments["sysctls"] = tuple(sorted(values["sysctls"].items()))
    return Tunables(**arguments)


def check_mss(scenario: Scenario, values: Values, problems: Problems) -> None:
    """Note a host whose MSS does not fit the MTU of a path of its flows."""
    for flow in scenario.flows:
        for path in scenario.paths(flow):
            mtu, narrow = _narrowest(path, scenario.topology)
            headers = HEADER_BYTES[path.local_address.version]
            for host in (path.local.host, path.remote.host):
                mss = scenario.tunables[host].mss
                if mss is not None and mss + headers > mtu:
                    own = "mss" in _own(values, host)
                    problems.add(
                        ("hosts", host, "tunables", "mss") if own else ("tunables", "mss"),
                        f"{mss} does not fit the MTU of {mtu} on {narrow}",
                        f"{mtu - headers} at most (the MTU less {headers} bytes of headers), "
                        "or a larger mtu",
                    )
                    return


def _narrowest(path: NetworkPath, topology: Topology) -> tuple[int, str]:
    """Return the smallest MTU that the ends of a path know, and where it is.

    What routers find too big beyond their own links, they say (path MTU discovery).
    """
    mtus = [(topology.link(name).mtu, name) for name in topology.own_links(path)]
    mtus += [(topology.interface_at(end).mtu, str(end)) for end in (path.local, path.remote)]
    return min(mtus, key=lambda pair: pair[0])
