"""No further subflows of our own: those that the peer opens are welcome."""

from __future__ import annotations

from mptcplab.stack.path_managers.base import Command, PathManager, PathView


class InitialOnly(PathManager):
    """The initial subflow, and what the peer joins ("default" of the 2012 kernel)."""

    def on_established(self, view: PathView) -> list[Command]:
        """Open nothing."""
        return []
