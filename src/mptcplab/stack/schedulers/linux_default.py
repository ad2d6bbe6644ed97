"""The upstream kernel's "default" scheduler (net/mptcp/protocol.c, mptcp_subflow_get_send).

Unlike the others it does not look at the congestion windows: it gives each burst to the subflow
whose send buffer would drain first at its average pacing rate, and if that one's buffer is full
it waits, which keeps the others from sending data that would arrive too early.
"""

from __future__ import annotations

from mptcplab.stack.congestion.base import CongestionControl
from mptcplab.stack.schedulers.base import ConnectionView, Scheduler, SubflowView

SEND_BURST_BYTES = 65428
"""MPTCP_SEND_BURST_SIZE of net/mptcp/protocol.c: 64 KiB less the largest headers."""
SLOW_START_PACING = 2.0
"""sysctl tcp_pacing_ss_ratio, 200 per cent, while cwnd < ssthresh / 2 (tcp_update_pacing_rate)."""
AVOIDANCE_PACING = 1.2
"""sysctl tcp_pacing_ca_ratio, 120 per cent."""


def pacing_rate(control: CongestionControl) -> float:
    """Return the rate at which Linux would pace the subflow, in bytes per nanosecond."""
    if control.srtt_ns == 0:
        return 0.0
    slow = control.cwnd_bytes < control.ssthresh_bytes // 2
    ratio = SLOW_START_PACING if slow else AVOIDANCE_PACING
    return ratio * control.cwnd_bytes / control.srtt_ns


class LinuxDefault(Scheduler):
    """Shortest time to drain what is queued; queues beyond the congestion window.

    What is queued is Linux's sk_wmem_queued: all that is not acknowledged, so that a path which has
    lost everything is no empty one.
    """

    __slots__ = ("mean_rate",)

    def __init__(self) -> None:
        self.mean_rate: dict[int, float] = {}
        """Pacing rate per subflow id, averaged over the bursts queued; bytes per nanosecond."""

    def select(self, usable: list[SubflowView], view: ConnectionView) -> SubflowView | None:
        """Return the subflow that would drain first if its buffer has room, else None."""
        best: SubflowView | None = None
        shortest_ns = 0.0
        for subflow in usable:
            rate = self.mean_rate.get(subflow.subflow_id) or pacing_rate(subflow.congestion)
            if rate == 0.0:
                continue
            self.mean_rate[subflow.subflow_id] = rate
            linger_ns = (subflow.unacked_bytes + subflow.queued_bytes) / rate
            if best is None or linger_ns < shortest_ns:
                best = subflow
                shortest_ns = linger_ns
        if best is None or best.queue_room_bytes <= 0:
            return None
        return best

    def allotted_bytes(self, subflow: SubflowView, wanted_bytes: int, view: ConnectionView) -> int:
        """Return the burst, as far as the send buffer has room; average the rate over bursts."""
        burst_bytes = min(wanted_bytes, SEND_BURST_BYTES, view.train_bytes)
        burst_bytes = min(burst_bytes, subflow.queue_room_bytes)
        if burst_bytes < wanted_bytes:
            burst_bytes -= burst_bytes % subflow.congestion.mss_bytes
        if burst_bytes > 0:
            queued_bytes = subflow.unacked_bytes + subflow.queued_bytes
            mean_rate = self.mean_rate[subflow.subflow_id]
            rate = pacing_rate(subflow.congestion)
            weighted = mean_rate * queued_bytes + rate * burst_bytes
            self.mean_rate[subflow.subflow_id] = weighted / (queued_bytes + burst_bytes)
        return burst_bytes

    def on_subflow_closed(self, subflow_id: int) -> None:
        """Forget its rate."""
        self.mean_rate.pop(subflow_id, None)
