"""A host's MIB counters (TCP, MPTCP, IP), as nstat shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FILES: Final = ("net/snmp", "net/netstat")
_FILE_V6: Final = "net/snmp6"


def parse_counters(text: str) -> dict[str, int]:
    """Return counters by nstat's names ("TcpRetransSegs", "MPTcpExtSubflowStale").

    ``text`` is /proc/net/snmp or /proc/net/netstat: pairs of lines "Group: names", "Group: values".
    """
    counters = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        group, _, keys = names.partition(":")
        for key, value in zip(keys.split(), values.partition(":")[2].split(), strict=False):
            counters[group + key] = int(value)
    return counters


def parse_icmpv6(text: str) -> dict[str, int]:
    """Return the counters of ICMPv6 ("Icmp6InPktTooBigs") of /proc/net/snmp6, one a line."""
    pairs = (line.split() for line in text.splitlines() if line.startswith("Icmp6"))
    return {name: int(value) for name, value in pairs}


def read_counters() -> dict[str, int]:
    """Return the counters of the network namespace that the calling thread is in."""
    counters = {}
    for name in _FILES:
        counters.update(parse_counters(Path(f"/proc/thread-self/{name}").read_text()))
    snmp6 = Path(f"/proc/thread-self/{_FILE_V6}")
    if snmp6.exists():  # not without IPv6
        counters.update(parse_icmpv6(snmp6.read_text()))
    return counters


def moved(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return (before, after) of the counters that changed; one that was absent counts as 0."""
    return {
        name: (before.get(name, 0), value)
        for name, value in after.items()
        if value != before.get(name, 0)
    }
