"""What an agent tells of its host before anything is changed."""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
import shutil
import socket
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from mptcplab.linux.kernel.mptcp_endpoints import Flags, PathManager
from mptcplab.linux.kernel.netlink import NETLINK_GENERIC, NetlinkSocket
from mptcplab.remote.agent.interfaces import asked
from mptcplab.remote.agent.journal import Journal
from mptcplab.remote.agent.qdiscs import netem_facts

_ASK_S: Final = 20
_CONGESTION: Final = "net/ipv4/tcp_available_congestion_control"
_SYSCTLS: Final = Path("/proc/sys")
_MOST: Final = 4096


def facts(
    sysctls: list[str], programs: list[str], ssh_connection: str, *, netem: bool
) -> dict[str, Any]:
    """Return what a plan needs to know: of sysctls and programs those that are asked for, and of
    netem where it is; ``ssh_connection`` is what sshd says of itself.
    """
    interfaces = _interfaces()
    endpoints, limits = _path_manager({each["index"]: each["name"] for each in interfaces})
    rules = [rule for family in ("-4", "-6") for rule in asked(family, "rule", "show")]
    routes = [
        route
        for family in ("-4", "-6")
        for route in asked(family, "route", "show", "table", "all")[: 16 * _MOST]
    ]
    header, undoings = Journal().read()
    return {
        "hostname": socket.gethostname(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "root": os.geteuid() == 0,
        "interfaces": interfaces[:_MOST],
        "management": _management(interfaces, ssh_connection),
        "defaults": sorted({d for route in routes if (d := _default_device(route))}),
        "tables": sorted({t for each in (*routes, *rules) if (t := _number(each.get("table")))}),
        "priorities": sorted({n for rule in rules if (n := _number(rule.get("priority")))}),
        "endpoints": endpoints,
        "limits": limits,
        "sysctls": {name: _sysctl(name) for name in sysctls},
        "congestion": _text(_SYSCTLS / _CONGESTION).split(),
        "programs": [name for name in programs if shutil.which(name)],
        "iperf3_has_mptcp": "iperf3" in programs and _iperf3_has_mptcp(),
        "netem": netem_facts() if netem else None,
        "programs_user": os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name,
        "journal": None
        if header is None
        else {
            "standing": bool(header.get("standing")),
            "who": str(header.get("who", "")),
            "since": str(header.get("since", "")),
            "changes": len(undoings),
        },
    }


def _interfaces() -> list[dict[str, Any]]:
    return [
        {
            "index": device["ifindex"],
            "name": device["ifname"],
            "mtu": device["mtu"],
            "up": "UP" in device["flags"],
            "carrier": "LOWER_UP" in device["flags"],
            "gso_max_segs": device.get("gso_max_segs"),
            "addresses": [
                f"{address['local']}/{address['prefixlen']}"
                for address in device["addr_info"]
                if "local" in address
            ],
        }
        for device in asked("-d", "address", "show")
        if "ifname" in device
    ]


def _management(interfaces: list[dict[str, Any]], ssh_connection: str) -> list[str]:
    """Return the interface that has the address at which sshd was reached."""
    words = ssh_connection.split()
    if len(words) != 4:  # client and port, server and port (ssh(1), SSH_CONNECTION)
        return []
    with contextlib.suppress(ValueError):
        own = ip_address(words[2].partition("%")[0])
        own = getattr(own, "ipv4_mapped", None) or own
        return [
            each["name"]
            for each in interfaces
            if any(ip_address(text.partition("/")[0]) == own for text in each["addresses"])
        ]
    return []


def _default_device(route: dict[str, Any]) -> str:
    in_main = _number(route.get("table", 254)) == 254  # RT_TABLE_MAIN
    return str(route.get("dev", "")) if route.get("dst") == "default" and in_main else ""


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | str) and str(value).isdigit() else 0


def _path_manager(
    names: dict[int, str],
) -> tuple[list[dict[str, Any]], dict[str, int] | None]:
    channel = NetlinkSocket(NETLINK_GENERIC)
    try:
        manager = PathManager(lambda: channel)
        limits = manager.limits()
        endpoints = [
            {
                "id": each.identifier,
                "address": str(each.address),
                "flags": [flag.name.lower() for flag in Flags if flag in each.flags and flag.name],
                "port": each.port,
                "dev": names.get(each.interface_index, ""),
            }
            for each in manager.endpoints()
        ]
    except OSError:
        return [], None
    finally:
        channel.close()
    return endpoints, {
        "subflows": limits.subflows,
        "add_addr_accepted": limits.add_addr_accepted,
    }


def _iperf3_has_mptcp() -> bool:
    """Return whether iperf3 has ``--mptcp`` (from 3.19 on)."""
    try:
        done = subprocess.run(
            ["iperf3", "--help"],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return "--mptcp" in done.stdout + done.stderr


def _sysctl(name: str) -> str | None:
    path = _SYSCTLS / name
    return _text(path) if path.exists() else None


def _text(path: Path) -> str:
    try:
        return " ".join(path.read_text().split())
    except OSError:
        return ""
