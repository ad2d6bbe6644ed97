"""Taking interfaces down and up again with all that goes when they are down: routes, addresses."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from mptcplab.remote.agent.journal import Command, CommandError

_OF_THE_KERNEL: Final = ("local", "broadcast", "multicast", "anycast")
_ASK_S: Final = 20
_IF_INET6: Final = Path("/proc/net/if_inet6")  # there where the kernel speaks IPv6
_ADDRESS_FLAGS: Final = ("home", "mngtmpaddr", "noprefixroute")
_NOT_SETTABLE: Final = ("linkdown", "dead", "offload", "trap", "rt_offload", "rt_trap")


def asked(*arguments: str) -> Any:
    """Return what ``ip -j`` answers; an empty list where it answers nothing or with an error.

    CommandError where there is no ``ip``, or it does not end.
    """
    done = _ip("-j", *arguments)
    try:
        return json.loads(done.stdout or "[]")
    except ValueError:
        return []


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["ip", "-N", *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_ASK_S, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise CommandError("there is no `ip`; install iproute2") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{' '.join(command)}: {error}") from error


def _families() -> list[str]:
    return ["-4", "-6"] if _IF_INET6.exists() else ["-4"]


def is_up(interface: str) -> bool:
    """Say whether an interface is set up, with or without carrier."""
    devices = asked("link", "show", "dev", interface)
    return bool(devices) and "UP" in devices[0].get("flags", ())


def restoring(interface: str) -> list[Command]:
    """Return what brings an interface back as it is now, once it has been down.

    CommandError where that is not known.
    """
    commands: list[Command] = [["ip", "link", "set", "dev", interface, "up"]]
    if "-6" in _families():
        answer = _told("-j", "-6", "address", "show", "dev", interface, "scope", "global")
        for device in json.loads(answer or "[]"):
            for address in device.get("addr_info", ()):
                if "local" in address and "dynamic" not in address:  # {} is of another scope
                    whole = f"{address['local']}/{address['prefixlen']}"
                    flags = [name for name in _ADDRESS_FLAGS if address.get(name)]
                    commands.append(
                        ["ip", "-6", "address", "replace", whole, "dev", interface, "nodad", *flags]
                    )
    for family in _families():
        commands += [
            ["ip", family, "route", "replace", *route, "dev", interface]
            for route in _routes(family, interface)
        ]
    return commands


def _told(*arguments: str) -> str:
    """Return what ``ip`` answers; CommandError for an error."""
    done = _ip(*arguments)
    if done.returncode:
        said = " ".join(done.stderr.split())[:400]
        raise CommandError(f"ip {' '.join(arguments)}: {said or f'status {done.returncode}'}")
    return done.stdout


def _routes(family: str, interface: str) -> list[list[str]]:
    """Return the routes over an interface that the kernel does not make by itself."""
    routes = []
    for line in _told(family, "route", "show", "table", "all", "dev", interface).splitlines():
        words = [word for word in line.split() if word not in _NOT_SETTABLE]
        if not words or words[0] in _OF_THE_KERNEL or "expires" in words:
            continue
        protocol = words[words.index("proto") + 1] if "proto" in words else ""
        if protocol in ("2", "kernel", "9", "ra"):
            continue  # RTPROT_KERNEL, RTPROT_RA: they come back by themselves
        routes.append(words)
    return sorted(routes, key=lambda words: "via" in words)  # gateways need their networks first
