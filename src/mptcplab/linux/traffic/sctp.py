"""SCTP flows: libusrsctp at both ends, multihomed over the flow's paths, each end in a process.

The kernel's TCP and MPTCP know nothing of it: what is measured are the bytes that the receiver has
checked, and what the links count.
"""

from __future__ import annotations

from typing import Any, Final

from mptcplab.linux.traffic.flow import BulkTraffic, Connection
from mptcplab.linux.traffic.plan import client_and_server
from mptcplab.linux.traffic.usrsctp import (
    CMT_COUPLED,
    CMT_OFF,
    CMT_PLAIN,
    CONGESTION_MODULES,
    Library,
    SctpError,
)
from mptcplab.scenario.buffers import AUTOTUNED_RECEIVE_BYTES, AUTOTUNED_SEND_BYTES
from mptcplab.scenario.model import Flow, Scenario, Tunables

_LEAST_CHUNK_BYTES: Final = 512
"""About the least that libusrsctp cuts a message into (SCTPCTL_MIN_SPLIT_POINT): so many chunks may
wait on each side as buffers have room for, where its own limit is 512."""
_TCP_HEADERS_BYTES: Final = 40  # of IPv4 and TCP, without options
_MESSAGES_WAITING: Final = 4
"""A message is sent whole, once the send buffer has room for it; so many are to fit into it."""


def unsupported_paths(scenario: Scenario, flow: Flow) -> str | None:
    """Return why a flow's paths are not SCTP's, which are its peer's addresses.

    The library knows no routes: a packet leaves by the interface that has its destination's subnet.
    """
    paths = scenario.paths(flow)
    if any(path.routed for path in paths):
        return "a path leads through a router, and libusrsctp sends within the hosts' subnets alone"
    if len({path.local_address.network for path in paths}) < len(paths):
        return "several paths are in one subnet, of which libusrsctp would use one alone"
    return None


def missing_library() -> str | None:
    """Return what to install for SCTP, None where it is there."""
    try:
        Library()
    except SctpError as error:
        return str(error)
    return None


class SctpTraffic(BulkTraffic):
    """An association for each connection of a flow, on a port of its own in SCTP and UDP."""

    def _program(self, role: str) -> list[str]:
        """Return the module of both ends, and which of them it is to be."""
        return ["mptcplab.linux.traffic.sctp_end", role]

    def _orders(self, connection: Connection) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the sender and the receiver of a connection are told."""
        flow, scenario = self.flow, self._scenario
        paths = scenario.paths(flow)
        clients = [str(path.local_address.ip) for path in paths]
        servers = [str(path.remote_address.ip) for path in paths]
        settings = _settings(scenario, flow)
        common = {
            "port": connection.port,
            "udp_port": connection.port,
            "stream": connection.port,
            "mtu": _packet_bytes(scenario, flow),
            "settings": settings,
        }
        links = [scenario.topology.bottleneck(path) for path in paths]
        connecting = common | {
            "role": "connect",
            "locals": clients,
            "remotes": servers,
            "links": dict(zip(servers, links, strict=True)),
        }
        listening = common | {
            "role": "listen",
            "locals": servers,
            "remotes": clients,
            "links": dict(zip(clients, links, strict=True)),
        }
        if client_and_server(flow)[0] == flow.source:
            sender, receiver = connecting, listening
        else:
            sender, receiver = listening, connecting
        largest = settings["sctp_sendspace"] // _MESSAGES_WAITING
        sender |= {
            "size_bytes": self._size(connection.index),
            "write_bytes": min(flow.write_bytes, largest),
            "rate_bps": flow.write_rate_bps,
        }
        receiver |= {"verify": flow.verify, "rate_bps": flow.read_rate_bps}
        return sender, receiver


def _packet_bytes(scenario: Scenario, flow: Flow) -> int:
    """Return the largest packet: what the links take, and TCP with the hosts' ``mss`` would send.

    One for all paths, since a message is cut once, whichever path its parts go.
    """
    links = {link for path in scenario.paths(flow) for link in path.links}
    sizes = [scenario.topology.link(link).mtu for link in links]
    for host in (flow.source, flow.destination):
        mss = scenario.tunables.get(host, Tunables()).mss
        if mss is not None:
            sizes.append(mss + _TCP_HEADERS_BYTES)
    return min(sizes)


def _settings(scenario: Scenario, flow: Flow) -> dict[str, int]:
    """Return the library's settings of both ends, by its names."""
    sender = scenario.tunables.get(flow.source, Tunables())
    receiver = scenario.tunables.get(flow.destination, Tunables())
    send_bytes = flow.send_buffer_bytes or sender.send_buffer_max_bytes or AUTOTUNED_SEND_BYTES
    receive_bytes = (
        flow.receive_buffer_bytes or receiver.receive_buffer_max_bytes or AUTOTUNED_RECEIVE_BYTES
    )
    coupled = flow.congestion == "lia"
    cmt = CMT_COUPLED if coupled else CMT_PLAIN
    return {
        "sctp_sendspace": send_bytes,
        "sctp_recvspace": receive_bytes,
        "sctp_max_chunks_on_queue": max(send_bytes, receive_bytes) // _LEAST_CHUNK_BYTES,
        "sctp_cmt_on_off": cmt if flow.cmt else CMT_OFF,
        "sctp_default_cc_module": CONGESTION_MODULES["reno" if coupled else flow.congestion],
    } | {f"sctp_{name}": value for name, value in flow.sctp}
