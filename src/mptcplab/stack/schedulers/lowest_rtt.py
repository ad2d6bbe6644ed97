"""Lowest round-trip time first, the scheduler of 2012, with its two cures for small buffers.

When the slow path holds the oldest data and the shared receive window is full, the fast path has
nothing it may send. *Opportunistic retransmission* (M1) sends the data that block the window again
on the fast path; *penalisation* (M2) halves the window of the subflow that held them, at most once
per round trip of the fast one. Raiciu et al., "How Hard Can It Be? Designing and Implementing a
Deployable Multipath TCP", NSDI 2012, section 4.2; details as in the out-of-tree kernel,
mptcp_sched.c, mptcp_rcv_buf_optimization.
"""

from __future__ import annotations

from mptcplab.stack.schedulers.base import (
    Allotment,
    ConnectionView,
    Scheduler,
    SubflowView,
    eligible_subflows,
    sendable_bytes,
)

TICK_NS = 4_000_000
"""What Linux 3.2 counted round trips in, at the 250 ticks a second that distributions choose; one
that takes no whole tick counts as one (net/ipv4/tcp_input.c, tcp_rtt_estimator)."""
SLOWER_FACTOR = 4
"""A piece is sent again only if its carrier's srtt exceeds ours this many times ..."""
SMALL_WINDOW_SEGMENTS = 4
"""... or its carrier's window is no larger than this (both mptcp_sched.c)."""
REGROWN_ROUNDS = 2
"""Round trips in which a halved window comes back in slow start: one until the first ACKs for what
it let out, one in which it doubles."""


def fastest(candidates: list[SubflowView]) -> SubflowView | None:
    """Return the one with the lowest srtt (the first of equals; unknown counts as lowest)."""
    best: SubflowView | None = None
    for subflow in candidates:
        if best is None or subflow.congestion.srtt_ns < best.congestion.srtt_ns:
            best = subflow
    return best


class LowestRtt(Scheduler):
    """The fastest subflow that has room in its window."""

    __slots__ = ("_penalised_ns", "penalises", "retransmits", "shortest_ns")

    def __init__(
        self, retransmits: bool = True, penalises: bool = True, shortest_ns: int = 0
    ) -> None:
        """Take whether M1 (``retransmits``) and M2 (``penalises``) are on.

        Round trips below ``shortest_ns`` count as that: among such subflows the first has
        precedence, as it had while kernels measured in ticks.
        """
        self.retransmits: bool = retransmits
        self.penalises: bool = penalises
        self.shortest_ns: int = shortest_ns
        self._penalised_ns: dict[int, int] = {}

    def select(self, usable: list[SubflowView], view: ConnectionView) -> SubflowView | None:
        """Return the fastest subflow with room, or None."""
        wanted_bytes = view.pending_end_offset - view.pending_offset
        best: SubflowView | None = None
        best_ns = 0
        for subflow in usable:
            srtt_ns = subflow.congestion.srtt_ns
            if srtt_ns < self.shortest_ns:
                srtt_ns = self.shortest_ns
            if (best is None or srtt_ns < best_ns) and sendable_bytes(
                subflow, wanted_bytes, view.train_bytes
            ) > 0:
                best = subflow
                best_ns = srtt_ns
        return best

    def next_allotment(self, view: ConnectionView) -> Allotment | None:
        """Return pending data, or else what blocks the window or the send buffer."""
        allotment = super().next_allotment(view)
        if allotment is not None or not (self.retransmits or self.penalises):
            return allotment
        unsent_bytes = view.pending_end_offset - view.pending_offset
        if unsent_bytes > 0:
            blocked = view.pending_is_new and view.window_end_offset <= view.pending_offset
        else:
            blocked = view.send_buffer_full
        if not blocked or view.head_end_offset <= view.acked_offset:
            return None
        return self._unblock(view)

    def on_window_blocked(self, view: ConnectionView) -> None:
        """Note that a subflow could send and the connection's window would not let it."""

    def on_subflow_closed(self, subflow_id: int) -> None:
        """Forget when it last penalised another."""
        self._penalised_ns.pop(subflow_id, None)

    def _unblock(self, view: ConnectionView) -> Allotment | None:
        head_bytes = view.head_end_offset - view.acked_offset
        candidates = [
            subflow
            for subflow in eligible_subflows(view.subflows, 0)
            if sendable_bytes(subflow, head_bytes, view.train_bytes) > 0
        ]
        fast = fastest(candidates)
        if fast is None:
            return None
        self.on_window_blocked(view)
        carriers = [
            subflow
            for subflow in view.subflows
            if subflow is not fast and view.head_carriers >> subflow.subflow_id & 1
        ]
        if self.penalises:
            self._penalise(fast, carriers, view.now_ns)
        if not self.retransmits or view.head_carriers >> fast.subflow_id & 1:
            return None
        if not _worth_repeating(fast, carriers):
            return None
        length_bytes = sendable_bytes(fast, head_bytes, view.train_bytes)
        return Allotment(fast, view.acked_offset, view.acked_offset + length_bytes)

    def _penalise(self, fast: SubflowView, carriers: list[SubflowView], now_ns: int) -> None:
        last_ns = self._penalised_ns.get(fast.subflow_id)
        if last_ns is not None and now_ns - last_ns < fast.congestion.srtt_ns:
            return
        for slow in carriers:
            in_order = not (slow.in_recovery or slow.timed_out)
            if in_order and fast.congestion.srtt_ns < slow.congestion.srtt_ns:
                before_bytes = slow.congestion.cwnd_bytes
                slow.congestion.penalise(now_ns)
                if slow.congestion.cwnd_bytes < before_bytes:
                    regrown_ns = REGROWN_ROUNDS * slow.congestion.srtt_ns
                    slow.penalised_until_ns = now_ns + regrown_ns
                self._penalised_ns[fast.subflow_id] = now_ns


def _worth_repeating(fast: SubflowView, carriers: list[SubflowView]) -> bool:
    worth = False
    for slow in carriers:
        control = slow.congestion
        if control.cwnd_bytes <= SMALL_WINDOW_SEGMENTS * control.mss_bytes:
            return True
        if SLOWER_FACTOR * fast.congestion.srtt_ns >= control.srtt_ns:
            return False
        worth = True
    return worth
