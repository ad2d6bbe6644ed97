"""Taking interfaces down and up again with all that goes when they are down: routes, addresses."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

from mptcplab.remote.agent.journal import Command

_OF_THE_KERNEL: Final = ("local", "broadcast", "multicast", "anycast")
_NOT_SETTABLE: Final = ("linkdown", "dead", "offload", "trap", "rt_offload", "rt_trap")


def asked(*arguments: str) -> Any:
    """Return what ``ip -j`` answers; an empty list where it answers nothing or with an error."""
    done = subprocess.run(
        ["ip", "-j", "-N", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
    )
    try:
        return json.loads(done.stdout or "[]")
    except ValueError:
        return []


def is_up(interface: str) -> bool:
    """Say whether an interface is set up, with or without carrier."""
    devices = asked("link", "show", "dev", interface)
    return bool(devices) and "UP" in devices[0].get("flags", ())


def restoring(interface: str) -> list[Command]:
    """Return what brings an interface back as it is now, once it has been down."""
    commands: list[Command] = [["ip", "link", "set", "dev", interface, "up"]]
    for device in asked("-6", "address", "show", "dev", interface, "scope", "global"):
        for address in device.get("addr_info", ()):
            if "dynamic" not in address:
                whole = f"{address['local']}/{address['prefixlen']}"
                commands.append(
                    ["ip", "-6", "address", "replace", whole, "dev", interface, "nodad"]
                )
    for family in ("-4", "-6"):
        commands += [
            ["ip", family, "route", "replace", *route, "dev", interface]
            for route in _routes(family, interface)
        ]
    return commands


def _routes(family: str, interface: str) -> list[list[str]]:
    """Return the routes over an interface that the kernel does not make by itself."""
    done = subprocess.run(
        ["ip", "-N", family, "route", "show", "table", "all", "dev", interface],
        capture_output=True,
        text=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
    )
    routes = []
    for line in done.stdout.splitlines():
        words = [word for word in line.split() if word not in _NOT_SETTABLE]
        if not words or words[0] in _OF_THE_KERNEL or "expires" in words:
            continue
        protocol = words[words.index("proto") + 1] if "proto" in words else ""
        if protocol in ("2", "kernel", "9", "ra"):
            continue  # RTPROT_KERNEL, RTPROT_RA: they come back by themselves
        routes.append(words)
    return sorted(routes, key=lambda words: "via" in words)  # gateways need their networks first
