"""The names of a lab's hosts and routers, as its programs resolve them: a file for /etc/hosts."""

from __future__ import annotations

from mptcplab.network.topology import Topology

_LOCALHOST = "127.0.0.1\tlocalhost\n::1\tlocalhost\n"


def hosts_file(topology: Topology) -> bytes:
    """Return a hosts(5) file with every address of every host and router, by its name.

    Addresses kept out of MPTCP come last: a program that takes the first then meets the network
    that is measured.
    """
    lines = [_LOCALHOST]
    for node in topology.nodes:
        interfaces = sorted(node.interfaces, key=lambda each: not each.multipath)  # stable
        lines += [f"{each.ip}\t{node.name}\n" for one in interfaces for each in one.addresses]
    return "".join(lines).encode()
