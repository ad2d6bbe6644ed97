"""What the processes tell of the connections that they serve: what they have read, and CPU time."""

from __future__ import annotations

from typing import Any

from mptcplab.linux.measure.apparatus import Apparatus
from mptcplab.linux.measure.sampler import Rows
from mptcplab.linux.probes import cpu


class Serving:
    """Completes the rows of ``connections`` with what no socket tells."""

    def __init__(self, apparatus: Apparatus) -> None:
        self._apparatus = apparatus
        self._before_ns: dict[int, int] = {}

    def complete(self, rows: Rows) -> None:
        """Add to the rows of an instant what is unread, and the CPU time used or waited for."""
        for row in rows:
            if "unread_bytes" not in row:
                self._add_unread(row)
            pid = self._process_of(row)
            threads = {} if pid is None else cpu.scheduled_ns(pid)
            if pid is not None and threads:
                wanted_ns = sum(run_ns + wait_ns for run_ns, wait_ns in threads.values())
                row["cpu_ns"] = wanted_ns - self._before_ns.setdefault(pid, wanted_ns)

    def _add_unread(self, row: dict[str, Any]) -> None:
        traffic = self._apparatus.flows.of(row["flow"])
        delivered = traffic.delivered_bytes()
        if row["host"] == traffic.flow.destination and delivered is not None:
            row["unread_bytes"] = max(row["bytes_received"] - delivered[row["connection"]], 0)

    def _process_of(self, row: dict[str, Any]) -> int | None:
        stack = self._apparatus.stacks.get(row["host"])
        if stack is not None:
            return None if stack.process is None else stack.process.pid
        traffic = self._apparatus.flows.of(row["flow"])
        role = "receiver" if row["host"] == traffic.flow.destination else "sender"
        return traffic.process_of(role, row["connection"])
