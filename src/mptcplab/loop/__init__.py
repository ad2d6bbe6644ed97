"""Clock and timers: one interface, in virtual time and in real time."""

from mptcplab.loop.realtime import RealTimeLoop
from mptcplab.loop.timers import NEVER, CallbackTimer, Loop, Timer
from mptcplab.loop.virtual import VirtualLoop

__all__ = ["NEVER", "CallbackTimer", "Loop", "RealTimeLoop", "Timer", "VirtualLoop"]
