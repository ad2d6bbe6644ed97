"""Which subflows endpoints lead to: what Linux 6.18 was seen to open, for every testbed to show.

Addresses count from 1 at each host; those of the same number share a network, and a router joins
the networks, so that each reaches each. The server announces its second and third.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mptcplab.scenario.load import load
from mptcplab.scenario.model import Scenario

MESH = """
duration = "1s"
interval = "100ms"
switches = ["n1", "n2", "n3"]
routers = ["r"]

[hosts.server.endpoints]
eth1 = { signal = true }
eth2 = { signal = true }

[hosts.client.limits]
LIMITS

[hosts.client.endpoints]
ENDPOINTS

[links.c1]
between = ["client", "n1"]
rate = "20Mb/s"
[links.c2]
between = ["client", "n2"]
rate = "20Mb/s"
[links.c3]
between = ["client", "n3"]
rate = "20Mb/s"
[links.s1]
between = ["server", "n1"]
rate = "20Mb/s"
[links.s2]
between = ["server", "n2"]
rate = "20Mb/s"
[links.s3]
between = ["server", "n3"]
rate = "20Mb/s"
[links.r1]
between = ["r", "n1"]
rate = "100Mb/s"
[links.r2]
between = ["r", "n2"]
rate = "100Mb/s"
[links.r3]
between = ["r", "n3"]
rate = "100Mb/s"

[flows.main]
from = "client"
to = "server"
links = ["c1", "s1", "c2", "s2", "c3", "s3", "r1", "r2", "r3"]
"""

ROWS: list[tuple[str, str, str]] = [
    ("", "", "1>1 2>2 3>3"),
    ("laminar 2 3", "", "1>1 2>2 3>3"),
    ("laminar 3 2", "", "1>1 2>3 3>2"),
    ("laminar 2", "", "1>1 2>2"),
    ("subflow 2 3", "", "1>1 2>1 2>2 3>1 3>3"),
    ("fullmesh 1 2 3", "", "1>1 1>2 1>3 2>1 2>2 2>3 3>1 3>2 3>3"),
    ("fullmesh 2 3", "", "1>1 2>1 2>2 2>3 3>1 3>2 3>3"),
    ("", "subflows = 1", "1>1 2>2"),
    ("", "add_addr_accepted = 1", "1>1 2>2"),
    ("subflow 2 3", "add_addr_accepted = 0", "1>1 2>1 3>1"),
    ("subflow 2 3", "subflows = 2", "1>1 2>1 2>2 3>3"),
]
"""Flag and numbers of the client's endpoints, its limits, and the subflows that come up."""


def row(folder: Path, endpoints: str, limits: str, *overrides: str) -> Scenario:
    """Return the scenario of a row."""
    flag, *numbers = endpoints.split() or [""]
    flags = "subflow = true, fullmesh = true" if flag == "fullmesh" else f"{flag} = true"
    text = "\n".join(f"eth{int(number) - 1} = {{ {flags} }}" for number in numbers)
    file = folder / "row.toml"
    file.write_text(MESH.replace("ENDPOINTS", text).replace("LIMITS", limits))
    return load(file, overrides=overrides)


def shown(pairs: Iterable[tuple[str, str]], scenario: Scenario) -> str:
    """Return pairs of addresses, the client's first, as the rows have them."""
    numbers = {
        str(address.ip): number
        for host in scenario.topology.hosts
        for number, interface in enumerate(host.interfaces, 1)
        for address in interface.addresses
    }
    return " ".join(sorted(f"{numbers[one]}>{numbers[other]}" for one, other in pairs))


def promised(scenario: Scenario) -> str:
    """Return the subflows that ``check`` promises."""
    paths = scenario.expected_subflows(scenario.flows[0])
    return shown(
        ((str(path.local_address.ip), str(path.remote_address.ip)) for path in paths), scenario
    )


def opened(rows: Iterable[Mapping[str, Any]], scenario: Scenario) -> str:
    """Return the subflows that were established, by the table of subflows."""
    pairs = {
        (row["local"].rpartition(":")[0], row["remote"].rpartition(":")[0])
        for row in rows
        if row["host"] == "client" and row["state"] not in ("SYN-SENT", "CLOSED")
    }
    return shown(pairs, scenario)


PHONE = """
duration = "6s"
interval = "100ms"
hosts = ["phone", "server"]
routers = ["net"]

[links.wifi]
between = ["phone", "net"]
rate = "20Mb/s"
delay = "10ms"
[links.lte]
between = ["phone", "net"]
rate = "10Mb/s"
delay = "25ms"
[links.core]
between = ["net", "server"]
rate = "100Mb/s"

[flows.main]
from = "phone"
to = "server"
links = ["wifi", "core", "lte"]
"""
"""A phone with two accesses, and a server with one address."""

BACKUP = PHONE.replace("[links.core]", "backup = true\n[links.core]")
"""The second access is a backup."""

OUTAGE = '\n[[timeline]]\nat = "2s"\ndown = "wifi"\nfor = "3s"\n'
PRIORITIES = """
[[timeline]]
at = "2s"
set_priority = "lte"
backup = true
for = "2s"
"""
ADDRESSES = """
[[timeline]]
at = "2s"
remove_address = "phone:eth1"
for = "1s"
[[timeline]]
at = "4s"
remove_address = "phone:eth1"
"""
WITH_ENDPOINT = PHONE.replace(
    'hosts = ["phone", "server"]',
    "hosts.server = {}\nhosts.phone.endpoints.eth1 = { subflow = true }",
)


def acked(rows: Iterable[Mapping[str, Any]], link: str) -> Callable[[float, float], int]:
    """Return what tells the bytes that a sender's subflows on a link got through between times (s).

    The time of the first sample at or after each counts.
    """
    totals: dict[int, int] = {}
    gone: dict[int, int] = {}
    for row in rows:
        if row["host"] == "phone" and row["link"] == link:
            gone[row["subflow"]] = max(gone.get(row["subflow"], 0), row["bytes_acked"])
            totals[row["time_ns"]] = sum(gone.values())

    def between(start_s: float, end_s: float) -> int:
        def at(time_s: float) -> int:
            return max(
                (total for time_ns, total in totals.items() if time_ns <= time_s * 1e9), default=0
            )

        return at(end_s) - at(start_s)

    return between
