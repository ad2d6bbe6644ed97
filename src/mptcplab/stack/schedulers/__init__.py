"""Packet schedulers: one policy per file, each a subclass of ``base.Scheduler``.

``SCHEDULERS`` names those that come with the stack, each with what makes one for a connection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mptcplab.stack.schedulers.base import Scheduler
from mptcplab.stack.schedulers.blest import Blest
from mptcplab.stack.schedulers.ecf import Ecf
from mptcplab.stack.schedulers.linux_default import LinuxDefault
from mptcplab.stack.schedulers.lowest_rtt import TICK_NS, LowestRtt
from mptcplab.stack.schedulers.own_windows import OwnWindows
from mptcplab.stack.schedulers.redundant import Redundant
from mptcplab.stack.schedulers.round_robin import RoundRobin

SCHEDULERS: dict[str, Callable[[], Scheduler]] = {
    "lowest-rtt": LowestRtt,
    "lowest-rtt-m1": partial(LowestRtt, penalises=False),
    "lowest-rtt-plain": partial(LowestRtt, retransmits=False, penalises=False),
    "2012": partial(LowestRtt, retransmits=False, penalises=False, shortest_ns=TICK_NS),
    "round-robin": RoundRobin,
    "redundant": Redundant,
    "blest": Blest,
    "ecf": Ecf,
    "linux-default": LinuxDefault,
    "own-windows": OwnWindows,
}

__all__ = ["SCHEDULERS", "Scheduler"]
