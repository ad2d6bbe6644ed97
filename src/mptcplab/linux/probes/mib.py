"""A host's MIB counters (TCP, MPTCP, IP), as nstat shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FILES: Final = ("net/snmp", "net/netstat")


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


def read_counters() -> dict[str, int]:
    """Return the counters of the network namespace that the calling thread is in."""
    counters = {}
    for name in _FILES:
        counters.update(parse_counters(Path(f"/proc/thread-self/{name}").read_text()))
    return counters


def moved(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return (before, after) of the counters that changed; one that was absent counts as 0."""
    return {
        name: (before.get(name, 0), value)
        for name, value in after.items()
        if value != before.get(name, 0)
    }
