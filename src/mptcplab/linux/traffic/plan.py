"""From a scenario's flow to the sockets that it needs."""

from __future__ import annotations

import socket
from typing import Final

from mptcplab.linux.traffic.sockets import SocketPlan
from mptcplab.network.topology import Path
from mptcplab.scenario.model import Flow, Scenario, Tunables
from mptcplab.scenario.schema.keys import COUPLED, SIMULATED_CONGESTION

FIRST_PORT: Final = 5001  # iperf's, which the report used


KERNEL_CONGESTION: Final = "cubic"
"""Linux's default, for the end of a connection that does not send the data."""


class FlowError(RuntimeError):
    """A flow that this machine cannot run; the text says which, why, and what to do."""

    exit_status = 3


def client_and_server(flow: Flow) -> tuple[str, str]:
    """Return the host that opens the flow's connections and the one that listens."""
    client = flow.client or flow.source
    return client, flow.destination if client == flow.source else flow.source


def socket_plans(
    scenario: Scenario, flow: Flow, path: Path, port: int
) -> tuple[SocketPlan, SocketPlan]:
    """Return the sender's and the receiver's sockets of one connection over an initial path.

    Sockets are IPv6 as soon as one path is: an IPv4 socket could not have IPv6 subflows.
    """
    client, _ = client_and_server(flow)
    paths = scenario.paths(flow)
    mixed = any(each.local_address.version == 6 for each in (path, *paths))
    mptcp = flow.protocol == "mptcp" and scenario.tunables.get(client, Tunables()).enabled

    def plan(role: str) -> SocketPlan:
        return SocketPlan(
            role=role,
            protocol="mptcp" if mptcp else "tcp",
            family=socket.AF_INET6 if mixed else socket.AF_INET,
            port=port,
            local=str(path.local_address.ip),
            remote=str(path.remote_address.ip),
            congestion=_kernel_congestion(flow.congestion),
            send_buffer_bytes=flow.send_buffer_bytes,
            receive_buffer_bytes=flow.receive_buffer_bytes,
            fast_open=flow.fast_open,
        )

    connecting, listening = plan("connect"), plan("listen")
    return (connecting, listening) if client == flow.source else (listening, connecting)


def _kernel_congestion(name: str) -> str:
    """Return what a socket of the kernel's is given: with our stack's, it only receives."""
    ours = (*COUPLED, *SIMULATED_CONGESTION)
    return KERNEL_CONGESTION if name in ours or ":" in name else name
