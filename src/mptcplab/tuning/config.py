"""The configuration of our stack that a host's tunables and a flow make."""

from __future__ import annotations

from mptcplab.scenario.model import Flow, Scenario, Tunables
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.path_managers import InitialOnly
from mptcplab.tuning.endpoints import EndpointTable
from mptcplab.tuning.paths import most_subflows
from mptcplab.tuning.policies import congestion_for, path_manager_for, scheduler_for
from mptcplab.wire.segment import MAX_TRAIN_BYTES

MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000

_PACKET_PAYLOAD_BYTES = 1400
_PACKET_MEMORY_BYTES = 2304
"""What of a receive buffer is window: as much as it holds of packets of 1,400 bytes, the report's
MSS. Linux charges such a packet 2,304 bytes, a 2,048-byte buffer and its sk_buff (skb->truesize).
What it *offers* has changed: three quarters of the buffer until 3.3, half of it from 3.4 to 6.2
(tcp_adv_win_scale 2, then 1), and what packets leave since (tcp_measure_rcv_mss; 6.18 was seen to
offer 0.67 to 0.76 on the report's links).
"""


def base_config(scenario: Scenario, host: str, train_bytes: int = MAX_TRAIN_BYTES) -> StackConfig:
    """Return what a host's tunables make of the stack's configuration."""
    tunables = scenario.tunables.get(host, Tunables())
    config = StackConfig(NewReno, scheduler_for(scenario, host), InitialOnly)
    config.mptcp = tunables.enabled
    config.version = tunables.version
    config.train_bytes = train_bytes
    config.offload = scenario.topology.host(host).offload
    config.checksum = tunables.checksum
    config.mss_bytes = tunables.mss or 0
    if tunables.receive_buffer_max_bytes is not None:
        config.receive_buffer_max_bytes = _window_of(tunables.receive_buffer_max_bytes)
    if tunables.send_buffer_max_bytes is not None:
        config.send_buffer_max_bytes = tunables.send_buffer_max_bytes
    if tunables.rto_max_ms is not None:
        config.max_rto_ns = tunables.rto_max_ms * MILLISECOND_NS
    if tunables.retries2 is not None:
        config.retries = tunables.retries2
    if tunables.ecn is not None:
        config.ecn = int(tunables.ecn)
    if tunables.stale_loss_cnt is not None:
        config.stale_loss_count = tunables.stale_loss_cnt
    if tunables.close_timeout_s is not None:
        config.close_timeout_ns = tunables.close_timeout_s * SECOND_NS
    if tunables.add_addr_timeout_s is not None:
        config.add_addr_timeout_ns = tunables.add_addr_timeout_s * SECOND_NS
    return config


def flow_config(
    scenario: Scenario,
    flow: Flow,
    host: str,
    train_bytes: int = MAX_TRAIN_BYTES,
    table: EndpointTable | None = None,
) -> StackConfig:
    """Return the configuration of a flow's connections at one of its hosts.

    ``table`` is as :func:`mptcplab.tuning.policies.path_manager_for` takes it.
    """
    config = base_config(scenario, host, train_bytes)
    config.mptcp = config.mptcp and flow.protocol == "mptcp"
    config.congestion = congestion_for(scenario, flow)
    config.path_manager = path_manager_for(scenario, flow, host, table)
    config.fast_open = flow.fast_open
    config.max_subflows = most_subflows(len(scenario.expected_subflows(flow)))
    if flow.send_buffer_bytes is not None:
        config.send_buffer_bytes, config.send_buffer_max_bytes = flow.send_buffer_bytes, 0
    if flow.receive_buffer_bytes is not None:
        config.receive_buffer_bytes = _window_of(flow.receive_buffer_bytes)
        config.receive_buffer_max_bytes = 0
    return config


def receive_window(scenario: Scenario, flow: Flow) -> dict[str, int | float]:
    """Return the largest receive window of a flow to our stack, and what of a buffer is window."""
    config = flow_config(scenario, flow, flow.destination)
    return {
        "receive_window_max_bytes": max(
            config.receive_buffer_bytes, config.receive_buffer_max_bytes
        ),
        "window_share": _PACKET_PAYLOAD_BYTES / _PACKET_MEMORY_BYTES,
    }


def _window_of(buffer_bytes: int) -> int:
    """Return the window that a receive buffer of this size, as getsockopt tells it, allows."""
    return buffer_bytes * _PACKET_PAYLOAD_BYTES // _PACKET_MEMORY_BYTES
