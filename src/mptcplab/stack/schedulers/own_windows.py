"""A fault, to study: each subflow is held to a window of its own once a link has returned.

When the first link came back in experiment B of the 2012 report (section 3.6.2), the capture showed
windows of 65,535 bytes on the old subflow, which soon fell silent, and of up to 14,155,776 bytes on
the new one, which from then on carried everything.  RFC 8684 section 3.3.5 says that a window
belongs to the connection: the sender may send up to the largest DATA_ACK + window that it has seen
on *any* subflow, on whichever subflow it likes.  This sender asks each subflow for its own instead,
with the windows of figure 32: new data may go on an old subflow only up to DATA_ACK + 65,535, and
with megabytes under way on the new one there never is room below that edge.
"""

from __future__ import annotations

from typing import Final

from mptcplab.stack.schedulers.base import ConnectionView, Scheduler, SubflowView, has_room

OLD_WINDOW_BYTES: Final = 65_535
NEW_WINDOW_BYTES: Final = 14_155_776
"""As figure 32 shows them."""
FIRST_RETURNED: Final = 2
"""Subflows 0 and 1 are those of the start; what comes later has returned."""


class OwnWindows(Scheduler):
    """Lowest RTT first, each subflow held to its own window once one has returned."""

    def select(self, usable: list[SubflowView], view: ConnectionView) -> SubflowView | None:
        """Return the fastest subflow with room in both windows, or None."""
        newest = max(subflow.subflow_id for subflow in usable)
        allowed = []
        for subflow in usable:
            window_bytes = NEW_WINDOW_BYTES
            if newest >= FIRST_RETURNED and subflow.subflow_id < newest:
                window_bytes = OLD_WINDOW_BYTES
            if view.pending_offset < view.acked_offset + window_bytes and has_room(subflow, view):
                allowed.append(subflow)
        return min(allowed, key=lambda one: one.congestion.srtt_ns, default=None)
