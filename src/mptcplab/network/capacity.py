"""The rate of a channel over time: constant, or following a recorded trace."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from mptcplab.loop.timers import NEVER
from mptcplab.network.impairments import CapacityTrace, step_time_ns
from mptcplab.network.parameters import ChannelParameters

if TYPE_CHECKING:
    from mypy_extensions import i64

UNLIMITED: Final = -1
"""The rate of a channel that sends everything at once."""


class Capacity:
    """What `rate_bps` is, and when it changes next (`next_ns`)."""

    __slots__ = ("_trace", "next_ns", "rate_bps", "start_ns")

    def __init__(self) -> None:
        self.rate_bps: int = UNLIMITED
        self.next_ns: i64 = NEVER
        self._trace: CapacityTrace | None = None
        self.start_ns = 0

    def configure(self, parameters: ChannelParameters, now_ns: int) -> None:
        """Take the rate, or start the trace unless it is the one that runs."""
        if parameters.trace is None:
            self._trace = None
            self.next_ns = NEVER
            self.rate_bps = UNLIMITED if parameters.rate_bps is None else parameters.rate_bps
        elif parameters.trace != self._trace:
            self._trace = parameters.trace
            self.start_ns = now_ns
            self.seek(now_ns)

    def seek(self, now_ns: int) -> None:
        """Take the rate that the trace has at this time."""
        trace = self._trace
        if trace is None:
            return
        elapsed_ns = now_ns - self.start_ns
        phase_ns = elapsed_ns % trace.period_ns if trace.period_ns else elapsed_ns
        following = bisect_right(trace.steps, phase_ns, key=step_time_ns)
        self.rate_bps = trace.steps[following - 1][1]
        if following < len(trace.steps):
            self.next_ns = now_ns - phase_ns + trace.steps[following][0]
        elif trace.period_ns:
            self.next_ns = now_ns - phase_ns + trace.period_ns
        else:
            self.next_ns = NEVER
