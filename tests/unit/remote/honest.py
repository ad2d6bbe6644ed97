"""What an honest agent tells of its host."""

from __future__ import annotations

from typing import Any


def facts(**changed: Any) -> dict[str, Any]:
    """Return the facts of a host with two links, a management interface and a default route."""

    def interface(name: str, *addresses: str, up: bool = True) -> dict[str, Any]:
        state = {"mtu": 1500, "up": up, "carrier": up, "gso_max_segs": 65535}
        return {"name": name, **state, "addresses": list(addresses)}

    return {
        "hostname": "client",
        "kernel": "6.12.0",
        "python": "3.12.1",
        "root": True,
        "interfaces": [
            interface("lo", "127.0.0.1/8"),
            interface("mgmt0", "10.99.0.1/24"),
            interface("enp1s0", "10.1.0.1/24"),
            interface("enp2s0", "10.2.0.1/24"),
        ],
        "management": ["mgmt0"],
        "defaults": ["mgmt0"],
        "tables": [253, 254, 255],
        "priorities": [32766, 32767],
        "endpoints": [],
        "limits": {"subflows": 2, "add_addr_accepted": 0},
        "sysctls": {"net/mptcp/enabled": "1", "net/mptcp/checksum_enabled": "0"},
        "congestion": ["reno", "cubic"],
        "programs": ["tcpdump"],
        "programs_user": "root",
        "iperf3_has_mptcp": False,
        "netem": None,
        "journal": None,
    } | changed
