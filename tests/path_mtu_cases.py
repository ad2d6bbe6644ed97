"""Scenarios of path MTUs and unreachable destinations, the same for both testbeds."""

from __future__ import annotations

from mptcplab.limits.evidence import Row
from mptcplab.results.run import Run

NARROW = """
duration = "4s"
hosts = { a = {}, b = {} }
routers = ["r1", "r2"]
[links]
left = { between = ["a", "r1"], rate = "100Mb/s", rtt = "2ms" }
narrow = { between = ["r1", "r2"], rate = "20Mb/s", rtt = "20ms", mtu = 1280 }
right = { between = ["r2", "b"], rate = "100Mb/s" }
[flows]
main = { from = "a", to = "b", protocol = "tcp" }
"""

BOTH_WAYS = """
duration = "4s"
hosts = ["phone", "server"]
routers = ["isp", "cell", "core"]
[links]
wifi = { between = ["phone", "isp"], rate = "20Mb/s", rtt = "20ms" }
lte = { between = ["phone", "cell"], rate = "10Mb/s", rtt = "50ms" }
isp-core = { between = ["isp", "core"], rate = "100Mb/s" }
cell-core = { between = ["cell", "core"], rate = "100Mb/s", mtu = 1440 }
dc = { between = ["core", "server"], rate = "1Gb/s" }
[flows]
main = { from = "server", to = "phone", client = "phone" }
"""

BLACK_HOLE = """
duration = "4s"
hosts = { a = {}, b = {} }
routers = ["r1", "r2"]
[links.left]
between = ["a", "r1"]
rate = "100Mb/s"
rtt = "2ms"
middleboxes = [{ kind = "drop", segments = "ICMP" }]
[links]
narrow = { between = ["r1", "r2"], rate = "20Mb/s", rtt = "20ms", mtu = 1280 }
right = { between = ["r2", "b"], rate = "100Mb/s" }
[flows]
main = { from = "a", to = "b", protocol = "tcp" }
"""

UNREACHABLE = """
duration = "1s"
[hosts]
a = {}
[hosts.b.interfaces]
eth0 = "10.9.1.2/24"
eth1 = "10.9.2.2/24"
[hosts.b.endpoints]
eth1 = { signal = true }
[routers]
r1 = { routes = { "10.9.2.0/24" = "unreachable" } }
r2 = {}
[links]
left = { between = ["a", "r1"], rate = "20Mb/s", rtt = "20ms" }
middle = { between = ["r1", "r2"], rate = "100Mb/s" }
right = { between = ["r2", "b:eth0"], rate = "100Mb/s" }
other = { between = ["r2", "b:eth1"], rate = "100Mb/s" }
[flows]
main = { from = "a", to = "b" }
"""


def last_subflows(done: Run, host: str) -> list[Row]:
    """Return the last row of each subflow as a host sees it."""
    last = {row["subflow"]: row for row in done.rows("subflows") if row["host"] == host}
    return list(last.values())


def sent_mss(done: Run, host: str) -> set[int]:
    """Return the segment sizes of a host's subflows at the end."""
    return {row["mss_bytes"] for row in last_subflows(done, host)}
