"""ndiffports: several subflows between the same two addresses, from different ports.

The client opens them as soon as the connection is established (out-of-tree kernel,
mptcp_ndiffports.c). That kernel never replaced one that died; ``retries`` may ask for it.
"""

from __future__ import annotations

from mptcplab.stack.path_managers.base import (
    Command,
    OpenSubflow,
    PathManager,
    PathView,
    SubflowPath,
)
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.path_managers.initial_only import InitialOnly
from mptcplab.stack.path_managers.retries import Retries


class NdiffPorts(PathManager):
    """As many subflows as asked for, the initial one included."""

    def __init__(self, subflows: int = 2, retries: Retries | None = None) -> None:
        """Take the number of subflows (the kernel's default is 2) and the retry policy."""
        if subflows < 1:
            raise ValueError(f"ndiffports: expected at least 1 subflow, got {subflows}")
        self.subflows = subflows
        self.retries = retries or Retries(attempts=0)

    def on_established(self, view: PathView) -> list[Command]:
        """Open what is missing."""
        return self._open(view, self.subflows - len(view.subflows))

    def on_subflow_established(self, view: PathView, path: SubflowPath) -> list[Command]:
        """Start the count of failures anew."""
        self.retries.note_success((view.initial_local, view.initial_remote))
        return []

    def on_subflow_closed(self, view: PathView, path: SubflowPath, failed: bool) -> list[Command]:
        """Plan a replacement if the policy allows."""
        if failed and view.is_client:
            self.retries.note_failure((view.initial_local, view.initial_remote), view.now_ns)
        return []

    def deadline_ns(self) -> int | None:
        """Return when a replacement is tried."""
        return self.retries.deadline_ns()

    def on_timeout(self, view: PathView) -> list[Command]:
        """Open what is missing, if that is due."""
        if not self.retries.take_due(view.now_ns):
            return []
        return self._open(view, self.subflows - len(view.subflows))

    def _open(self, view: PathView, count: int) -> list[Command]:
        if not view.is_client or view.peer_denies_initial:
            return []
        return [OpenSubflow(0, view.initial_local, view.initial_remote) for _ in range(count)]


def path_manager_for_ndiffports(value: int) -> PathManager:
    """Return what the 2012 kernel did with its sysctl ``mptcp_ndiffports`` set to ``value``.

    0 is the initial subflow only, 1 a full mesh, more the number of subflows (report, 2.3.6).
    Raises ValueError for a negative value.
    """
    if value < 0:
        raise ValueError(f"mptcp_ndiffports: expected 0 or more, got {value}")
    if value == 0:
        return InitialOnly()
    return FullMesh() if value == 1 else NdiffPorts(value)
