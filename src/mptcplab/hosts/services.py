"""Programs that set up addresses, routes or MPTCP endpoints by themselves, and how they are set."""

from __future__ import annotations

import configparser
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mptcplab.hosts.facts import Service

# the process's name as /proc/PID/comm has it, the files that configure it, the keys that matter
_KNOWN: Final[dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "NetworkManager": (
        "NetworkManager",
        (
            "usr/lib/NetworkManager/conf.d/*.conf",
            "etc/NetworkManager/NetworkManager.conf",
            "etc/NetworkManager/conf.d/*.conf",
            "etc/NetworkManager/system-connections/*.nmconnection",
        ),
        ("connection.mptcp-flags", "mptcp-flags"),
    ),
    "systemd-network": (
        "systemd-networkd",
        ("etc/systemd/networkd.conf", "etc/systemd/networkd.conf.d/*.conf"),
        ("ManageForeignRoutingPolicyRules", "ManageForeignRoutes"),
    ),
    "mptcpd": (
        "mptcpd",
        ("etc/mptcpd/mptcpd.conf",),
        ("path-manager", "addr-flags", "notify-flags", "load-plugins"),
    ),
    "dhclient": ("dhclient", (), ()),
    "dhcpcd": ("dhcpcd", (), ()),
    "connmand": ("ConnMan", (), ()),
}


def running_services(root: Path = Path("/")) -> tuple[Service, ...]:
    """Return which of the known services run in this network namespace, with their settings.

    A service whose namespace may not be looked at counts as one of this namespace.
    """
    here = _namespace(root / "proc" / "self")
    running = set()
    with suppress(OSError):
        for process in (root / "proc").iterdir():
            if not process.name.isdigit():
                continue
            with suppress(OSError):
                name = (process / "comm").read_text().strip()
                if name in _KNOWN and _namespace(process) in (None, here):
                    running.add(name)
    return tuple(
        Service(name, _settings(root, files, keys))
        for comm, (name, files, keys) in _KNOWN.items()
        if comm in running
    )


def _namespace(process: Path) -> str | None:
    try:
        return str((process / "ns" / "net").readlink())
    except OSError:
        return None


def _settings(root: Path, patterns: Iterable[str], keys: Iterable[str]) -> dict[str, str]:
    """Return the keys that files set, by file and key where a file is of one connection."""
    wanted = {key.lower(): key for key in keys}
    found: dict[str, str] = {}
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            parser = configparser.ConfigParser(strict=False, interpolation=None)
            try:
                parser.read(path, encoding="utf-8")
            except (OSError, configparser.Error, UnicodeDecodeError):
                continue
            for section in parser.sections():
                for key, value in parser.items(section):
                    if key in wanted:
                        of = f" of {path.stem}" if path.suffix == ".nmconnection" else ""
                        found[wanted[key] + of] = value
    return found
